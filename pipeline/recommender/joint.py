"""Joint training: the MIRM learns with the user model, as in the paper's second stage and in HLLM.

    every step   the distinct items of the batch, inputs and targets, go through the MIRM with their graph
    bank (N, F)  conditioned features of all items as they were last encoded; the step's own rows take their places
    table        head(bank with the step's rows) -> the objective and the terms, unchanged, over all trained items
    every epoch  the averaged MIRM encodes the whole catalogue anew: what is validated, and the bank from then on

So the paper's "both losses optimise MIRM and DUEG" holds for every objective and every alignment. Gradients reach the
step's own items alone; a softmax compares them with the others as the bank (He et al. 2020) remembers them. The map
that conditions embeddings stays the one fitted on those that the MIRM started from.

Differs from the paper in: by default it goes on from the cached mode's best weights (`start: scratch` does not), LoRA
by default, and an aligned teacher that stays frozen. From HLLM in: other items than a batch's cost no encoding at all,
where HLLM encodes a negative for each position.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline import artifacts
from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.mirm.embed import embed_items, model_digests
from pipeline.mirm.folder import load_mirm, save_mirm
from pipeline.mirm.own import OWN_EMBEDDINGS, OWN_MIRM
from pipeline.mirm.shards import read_conditioning, write_conditioning, write_embeddings
from pipeline.mirm.trained import TrainedEncoder
from pipeline.params.embed_items import EmbedItems
from pipeline.params.train_dueg import Joint
from pipeline.recommender.batches import Batch
from pipeline.recommender.grid import Recommender
from pipeline.recommender.item_table import FeatureTable, IdTable


class Memory(nn.Module):
    """What a checkpoint of joint training holds beside the user model's: trained weights of the MIRM, and the bank.

    A frozen backbone is no part of it, and the bank is the very tensor that the item table reads.
    """

    features_NF: Tensor

    def __init__(self, weights: list[nn.Parameter], features_NF: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.register_buffer("features_NF", features_NF)


class JointItems:
    """The MIRM of `shared` beside a recommender of content whose features come from `embeddings`; `fit.ItemSource`.

    The adapters' first values follow from the seed. Raises MolarError for a missing or corrupted file.
    """

    def __init__(
        self,
        recommender: Recommender,
        items: Items,
        shared: Artifact,
        embeddings: Artifact,
        joint: Joint,
        embed: EmbedItems,
        seed: int,
    ) -> None:
        table = recommender.table
        assert not isinstance(table, IdTable)  # params refuse it
        content = table if isinstance(table, FeatureTable) else table.content
        device = content.features_NF.device
        torch.manual_seed(seed)
        self.encoder = TrainedEncoder(load_mirm(shared, "float32"), items, joint, embed, device)
        self.module = Memory(self.encoder.weights(), content.features_NF)
        self.learning_rate = joint.learning_rate
        self._table, self._items, self._embed, self._device = table, items, embed, device
        self._conditioning = read_conditioning(embeddings)
        self._mean_D, self._matrix_DF = (torch.from_numpy(part).to(device) for part in self._conditioning)

    def trained(self, batch: Batch) -> Tensor:
        """(V, D) vectors of the trained items, those of the batch with a graph that leads into the MIRM."""
        met_T = torch.cat([batch.inputs_BL[batch.real_BL], batch.targets_BL[batch.asked_BL]])
        items_S = met_T.unique()  # sorted
        rows_SF = self._conditioned(self.encoder.encode(items_S.tolist()))
        bank_NF = self.module.features_NF
        bank_NF[items_S] = rows_SF.detach()
        return self._table.trained(bank_NF[: self._table.num_trained].index_copy(0, items_S, rows_SF))

    @torch.no_grad()
    def refresh(self) -> None:
        """Put every item, cold ones included, into the bank as the MIRM is now."""
        self.module.features_NF.copy_(self._conditioned(self.encoder.everything().to(self._device)))

    def write(self, out: Path, stage: str, workers: int) -> None:
        """`mirm/` and `embeddings/` in the output directory of `stage`: what `finetune_mirm` and `embed_items` write,
        every item encoded once more by the saved MIRM. A killed run finds what it had encoded in the item cache.
        """
        with artifacts.write(out / OWN_MIRM) as folder:
            save_mirm(self.encoder.finished(), folder)
        own = artifacts.read(out / OWN_MIRM, stage)
        mirm = load_mirm(own, self._embed.precision)
        found = embed_items(mirm, self._items, self._embed, model_digests(own), self._device, workers)
        with artifacts.write(out / OWN_EMBEDDINGS) as folder:
            write_embeddings(folder, found.embeddings_ND, self._embed.dtype, self._embed.shard_items)
            write_conditioning(folder, *self._conditioning)

    def _conditioned(self, raw_SD: Tensor) -> Tensor:
        return (raw_SD - self._mean_D) @ self._matrix_DF
