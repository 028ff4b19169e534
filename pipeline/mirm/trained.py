"""A MIRM whose embeddings are trained by what reads them: items with their graph, or the whole catalogue without.

Promise: the gradient of a step equals that of all its items encoded at once by plain autograd, dropout included, while
activations of about `batch_tokens` padded tokens are in memory. Where a step has more, each part is encoded without
activations and once more when its gradient arrives: GradCache (Gao et al. 2021), which for a loss that reads nothing
but the embeddings is torch's own checkpointing, random state included. (`objectives.py` takes the two passes by hand
because there processes must gather the embeddings between them.)

Items go through the very forward pass of `embed_items`. Weights are float32; `embed_items.precision: bfloat16` is
autocast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.catalog.catalogue import Items
from pipeline.errors import MolarError
from pipeline.mirm.adapters import with_adapters
from pipeline.mirm.backbone import DTYPES
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import Mirm
from pipeline.mirm.rows import DoesNotFitError
from pipeline.params.embed_items import EmbedItems
from pipeline.params.train_dueg import Joint


class TrainedEncoder:
    """One MIRM (float32 weights) over one catalogue; adapters are drawn from torch's generator."""

    def __init__(self, mirm: Mirm, items: Items, joint: Joint, embed: EmbedItems, device: torch.device) -> None:
        self._mirm, self._joint, self._precision = mirm, joint, embed.precision
        self._model = with_adapters(mirm, joint.lora) if joint.tuning == "lora" else mirm.model
        self._encoder = Encoder(mirm, items, embed.modality, device, joint.batch_tokens)
        # torch keeps the random state of those devices alone whose tensors it is given, and a batch has none
        self._on_device = torch.empty(0, device=device)
        self.encoded = self.anew = 0  # items with a graph, and without: what this process has computed

    def weights(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for parameter in self._model.parameters() if parameter.requires_grad]

    def encode(self, items: Sequence[int]) -> Tensor:
        """float32 (S, D) of distinct items in ascending order, with their graph."""
        self._model.train()
        batches = list(self._encoder.batches(items))
        lengths = [self._encoder.shape(batch[0]).length for batch in batches]
        tokens = sum(len(batch) * length for batch, length in zip(batches, lengths, strict=True))
        rows = [
            checkpoint(self._states, batch, length, self._on_device, use_reentrant=False)
            if tokens > self._joint.batch_tokens
            else self._states(batch, length, self._on_device)
            for batch, length in zip(batches, lengths, strict=True)
        ]
        order_S = torch.tensor([item for batch in batches for item in batch]).argsort()
        self.encoded += len(order_S)
        return torch.cat(rows)[order_S.to(rows[0].device)]

    def everything(self) -> Tensor:
        """float32 (N, D) of all items as the weights are now, without graph or dropout.

        Raises MolarError where a batch does not fit into memory.
        """
        self._model.eval()
        rows_ND: Tensor | None = None
        for batch in self._encoder.batches():
            try:
                with self._autocast():
                    rows_BD = torch.from_numpy(self._encoder.encode(batch))
            except DoesNotFitError as error:
                raise MolarError(
                    f"train_dueg.joint: {error.rows} rows of {error.length} tokens do not fit into memory: lower "
                    f"train_dueg.joint.batch_tokens ({self._joint.batch_tokens:,})"
                ) from None
            if rows_ND is None:
                rows_ND = rows_BD.new_empty(len(self._encoder.items), rows_BD.shape[1])
            rows_ND[batch] = rows_BD
        assert rows_ND is not None  # no catalogue is empty
        self.anew += len(rows_ND)
        return rows_ND

    def finished(self) -> Mirm:
        """The trained MIRM as a plain checkpoint in `embed_items.precision`, adapters merged; call it once, last."""
        model = self._model.merge_and_unload() if isinstance(self._model, PeftModel) else self._model
        plain = model.to("cpu", DTYPES[self._precision]).eval()
        return Mirm(plain, self._mirm.processor, self._mirm.settings)

    def _states(self, items: list[int], length: int, _on_device: Tensor) -> Tensor:
        with self._autocast():
            return self._encoder.states(items, length)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._encoder.device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
