"""The grid: one item table, one user model, and how the pair is built, asked, saved and loaded.

Every user model is one file with one interface, `model(items_BLD, last_B, users_B) -> users_BLD`: of a batch's item
vectors, each row's last real position and each row's user (`fpmc.NOBODY` where it is no user's), the user vector after
every position, of the same width `model.dim`. No position sees what comes after it. `duorec` is SASRec with a further
loss (duorec.py), so SASRec is its body here.

A saved recommender is `recommender.json` (what it is), `model.safetensors` (all its own weights) and, for an LLM
user model, `decoder/` as a plain save_pretrained folder. Item features stay in the embeddings artifact that the
recommender was trained with (pipeline/mirm/own.py says which).
Scores are dot products of `user_vectors` and `item_vectors`, so any inner-product index serves them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.artifacts import Artifact, write_json
from pipeline.catalog.catalogue import Sequences
from pipeline.errors import MolarError
from pipeline.mirm.own import OWN_EMBEDDINGS, own_or
from pipeline.mirm.shards import conditioned
from pipeline.params.train_dueg import Head
from pipeline.params.training import Fpmc, Gru4Rec, ModelName, UserModel
from pipeline.params.training import SASRec as SASRecParams
from pipeline.recommender import llm
from pipeline.recommender.batches import padded
from pipeline.recommender.fpmc import FPMC, NOBODY
from pipeline.recommender.gru4rec import GRU4Rec
from pipeline.recommender.item_table import FeatureTable, IdTable, ItemTable, SumTable
from pipeline.recommender.sasrec import SASRec
from pipeline.recommender.second_token import SecondToken

USERS_PER_BLOCK = 256  # of a forward pass without gradients

Model = SASRec | GRU4Rec | FPMC | llm.Decoder
Items = Literal["id", "mirm", "id+mirm"]


class Spec(BaseModel):
    """What a recommender is made of: enough to build it again around saved weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: Items
    model: ModelName
    num_items: int
    num_trained: int  # items 0..num_trained-1 stand in the softmax; later ones are cold
    max_history: int
    sasrec: SASRecParams | None = None  # of sasrec and duorec
    gru4rec: Gru4Rec | None = None
    fpmc: Fpmc | None = None
    num_users: int | None = None  # that fpmc has factors of
    head: Head | None = None
    second_token: int | None = None  # width of the teacher's item vectors, where each item has them as a second token
    cosine: bool = False  # users and items are compared by cosine, not by dot product


class Recommender(nn.Module):
    """(item table, user model). Deterministic in eval mode; see `pipeline.recommender.fit` for training."""

    def __init__(self, spec: Spec, table: ItemTable, model: Model, second: SecondToken | None = None) -> None:
        super().__init__()
        self.spec, self.table, self.model, self.second = spec, table, model, second

    def forward(self, inputs_BL: Tensor, last_B: Tensor, users_B: Tensor, items_VD: Tensor) -> Tensor:
        """User vectors at every position (B, L, D) of rows of `users_B` that end at `last_B`; `items_VD` is the table,
        computed once per step."""
        items_BLD = F.embedding(inputs_BL, items_VD)
        if self.second is None:
            users_BLD: Tensor = self.model(items_BLD, last_B, users_B)
            return users_BLD
        tokens_BMD: Tensor = self.model(self.second(items_BLD, inputs_BL), 2 * last_B + 1, users_B)
        return tokens_BMD[:, 1::2]  # after an item's second token both have been read

    @property
    def num_items(self) -> int:
        return self.spec.num_items

    @property
    def rankable(self) -> np.ndarray:
        """(N,) bool: items that have a learned vector. Content reaches cold items, IDs do not."""
        known = self.spec.num_items if self.spec.items != "id" else self.spec.num_trained
        return np.arange(self.spec.num_items) < known

    def compared(self, vectors: Tensor) -> Tensor:
        """Users or items as dot products compare them: of length 1 where cosine is what was trained."""
        return F.normalize(vectors, dim=-1) if self.spec.cosine else vectors

    @torch.no_grad()
    def item_vectors(self) -> np.ndarray:
        """(N, D) float32."""
        return self.compared(self.eval().table.everything()).cpu().numpy()

    @torch.no_grad()
    def user_vectors(self, histories: Sequence[np.ndarray], users: np.ndarray | None = None) -> np.ndarray:
        """(U, D) float32: the vector after each history's last item, reading its most recent `max_history` items.

        `users` (U,) int: whose they are, rows of the sequences trained on; None: nobody's. FPMC alone tells apart.
        """
        items_ND = self.eval().table.everything()
        out_UD = np.empty((len(histories), items_ND.shape[1]), np.float32)
        whose = np.full(len(histories), NOBODY) if users is None else users
        order = np.argsort([min(len(h), self.spec.max_history) for h in histories], kind="stable")  # little padding
        for start in range(0, len(order), USERS_PER_BLOCK):
            block = order[start : start + USERS_PER_BLOCK]
            items_BL, last_B = padded([histories[u] for u in block], self.spec.max_history)
            users_B = torch.from_numpy(whose[block].astype(np.int64))
            users_BLD = self(*(part.to(items_ND.device) for part in (items_BL, last_B, users_B)), items_ND)
            out_UD[block] = self.compared(users_BLD[torch.arange(len(block)), last_B]).cpu().numpy()
        return out_UD


def spec_of(
    params: UserModel, sequences: Sequences, max_history: int, *, items: Items = "id", head: Head | None = None
) -> Spec:
    """What `train_teacher` or `train_dueg` is to build for these sequences: of the sizes those that count."""
    size = {"duorec": "sasrec"}.get(params.model, params.model)
    return Spec(
        items=items,
        model=params.model,
        num_items=sequences.num_items,
        num_trained=sequences.num_warm,
        max_history=max_history,
        sasrec=params.sasrec if size == "sasrec" else None,
        gru4rec=params.gru4rec if size == "gru4rec" else None,
        fpmc=params.fpmc if size == "fpmc" else None,
        num_users=len(sequences) if size == "fpmc" else None,
        head=head if items != "id" else None,
        cosine=params.objective.kind == "nce",
    )


def user_model(spec: Spec, decoder: llm.Decoder | None) -> Model:
    """Fresh weights from torch's global generator; of `llm` the `decoder` itself."""
    if spec.model == "llm":
        assert decoder is not None
        return decoder
    if spec.model == "gru4rec":
        assert spec.gru4rec is not None
        return GRU4Rec(**spec.gru4rec.model_dump())
    if spec.model == "fpmc":
        assert spec.fpmc is not None and spec.num_users is not None
        return FPMC(**spec.fpmc.model_dump(), num_users=spec.num_users)
    assert spec.sasrec is not None
    return SASRec(**spec.sasrec.model_dump(), max_history=spec.max_history)


def build(spec: Spec, embeddings: Artifact | None, decoder: llm.Decoder | None) -> Recommender:
    """Fresh weights from torch's global generator, but for a pretrained `decoder` (user model llm)."""
    model = user_model(spec, decoder)
    second = SecondToken(torch.zeros(spec.num_items, spec.second_token), model.dim) if spec.second_token else None
    return Recommender(spec, item_table(spec, embeddings, model.dim), model, second)


def item_table(spec: Spec, embeddings: Artifact | None, dim: int) -> ItemTable:
    """Fresh weights from torch's global generator, over the frozen features of `embeddings`."""
    if spec.items == "id":
        return IdTable(spec.num_items, spec.num_trained, dim)
    assert spec.head is not None and embeddings is not None
    features_NF = torch.from_numpy(conditioned(embeddings))
    content = FeatureTable(features_NF, spec.num_trained, dim, **spec.head.model_dump())
    return content if spec.items == "mirm" else SumTable(IdTable(spec.num_items, spec.num_trained, dim), content)


def with_second_token(recommender: Recommender, teacher: Recommender) -> Recommender:
    """The same table and user model, which from now on reads the teacher's item vector after each item's own."""
    vectors_NE = torch.from_numpy(teacher.item_vectors())
    second = SecondToken(vectors_NE, recommender.model.dim).to(next(recommender.parameters()).device)
    spec = recommender.spec.model_copy(update={"second_token": vectors_NE.shape[1]})
    return Recommender(spec, recommender.table, recommender.model, second)


def save(recommender: Recommender, directory: Path) -> None:
    """Write the recommender into a stage's (temporary) output directory."""
    write_json(directory / "recommender.json", recommender.spec.model_dump(mode="json"))
    weights = recommender.state_dict()
    if isinstance(recommender.model, llm.Decoder):
        llm.save_decoder(recommender.model, directory / "decoder")
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("model.")}
    save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, directory / "model.safetensors")


def load_recommender(artifact: Artifact, embeddings: Artifact | None, device: str = "cpu") -> Recommender:
    """The recommender that `train_teacher` or `train_dueg` saved, in eval mode, over `embeddings`, or over its own
    where it was trained jointly with its MIRM.

    Raises MolarError where a file is missing or corrupted, or was written by code that knew other parts.
    """
    path = artifact.file("recommender.json")
    try:
        spec = Spec.model_validate(json.loads(path.read_text("utf-8")))
    except ValidationError:
        raise MolarError(f"{path} is of another version of this project: run `dvc repro {artifact.stage}`") from None
    decoder = llm.load_decoder(artifact.verified() / "decoder") if spec.model == "llm" else None
    recommender = build(spec, own_or(artifact, OWN_EMBEDDINGS, embeddings), decoder)
    missing, unexpected = recommender.load_state_dict(load_file(artifact.file("model.safetensors")), strict=False)
    assert not unexpected and all(name.startswith("model.body.") for name in missing), (missing, unexpected)
    return recommender.to(device).eval()
