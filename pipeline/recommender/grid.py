"""The grid: one item table, one user model, and how the pair is built, asked, saved and loaded.

A saved recommender is `recommender.json` (what it is), `model.safetensors` (all its own weights) and, for an LLM
user model, `decoder/` as a plain save_pretrained folder. Frozen item features stay in the embeddings artifact.
Scores are dot products of `user_vectors` and `item_vectors`, so any inner-product index serves them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.artifacts import Artifact, write_json
from pipeline.mirm.shards import conditioned
from pipeline.params.train_dueg import Head
from pipeline.params.training import SASRec as SASRecParams
from pipeline.recommender import llm
from pipeline.recommender.batches import padded
from pipeline.recommender.item_table import FeatureTable, IdTable, ItemTable
from pipeline.recommender.sasrec import SASRec

USERS_PER_BLOCK = 256  # of a forward pass without gradients


class Spec(BaseModel):
    """What a recommender is made of: enough to build it again around saved weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: Literal["id", "mirm"]
    model: Literal["sasrec", "llm"]
    num_items: int
    num_trained: int  # items 0..num_trained-1 stand in the softmax; later ones are cold
    max_history: int
    sasrec: SASRecParams | None = None
    head: Head | None = None


class Recommender(nn.Module):
    """(item table, user model). Deterministic in eval mode; see `pipeline.recommender.fit` for training."""

    def __init__(self, spec: Spec, table: ItemTable, model: SASRec | llm.Decoder) -> None:
        super().__init__()
        self.spec, self.table, self.model = spec, table, model

    def forward(self, inputs_BL: Tensor, last_B: Tensor, items_VD: Tensor) -> Tensor:
        """User vectors at every position (B, L, D) of rows that end at `last_B`; `items_VD` is the table, computed
        once per step."""
        return self.model(items_VD[inputs_BL], last_B)

    @property
    def num_items(self) -> int:
        return self.spec.num_items

    @property
    def rankable(self) -> np.ndarray:
        """(N,) bool: items that have a learned vector. Content reaches cold items, IDs do not."""
        known = self.spec.num_items if self.spec.items != "id" else self.spec.num_trained
        return np.arange(self.spec.num_items) < known

    @torch.no_grad()
    def item_vectors(self) -> np.ndarray:
        """(N, D) float32."""
        return self.eval().table.everything().cpu().numpy()

    @torch.no_grad()
    def user_vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """(U, D) float32: the vector after each history's last item, reading its most recent `max_history` items."""
        items_ND = self.eval().table.everything()
        out_UD = np.empty((len(histories), items_ND.shape[1]), np.float32)
        order = np.argsort([min(len(h), self.spec.max_history) for h in histories], kind="stable")  # little padding
        for start in range(0, len(order), USERS_PER_BLOCK):
            block = order[start : start + USERS_PER_BLOCK]
            items_BL, last_B = padded([histories[u] for u in block], self.spec.max_history)
            users_BLD = self(items_BL.to(items_ND.device), last_B.to(items_ND.device), items_ND)
            out_UD[block] = users_BLD[torch.arange(len(block)), last_B].cpu().numpy()
        return out_UD


def build(spec: Spec, embeddings: Artifact | None, decoder: llm.Decoder | None) -> Recommender:
    """Fresh weights from torch's global generator, but for a pretrained `decoder` (user model llm)."""
    if spec.model == "llm":
        assert decoder is not None
        model: SASRec | llm.Decoder = decoder
    else:
        assert spec.sasrec is not None
        model = SASRec(**spec.sasrec.model_dump(), max_history=spec.max_history)
    if spec.items == "id":
        table: ItemTable = IdTable(spec.num_items, spec.num_trained, model.dim)
    else:
        assert spec.head is not None and embeddings is not None
        features_NF = torch.from_numpy(conditioned(embeddings))
        table = FeatureTable(features_NF, spec.num_trained, spec.head.hidden, model.dim, spec.head.dropout)
    return Recommender(spec, table, model)


def save(recommender: Recommender, directory: Path) -> None:
    """Write the recommender into a stage's (temporary) output directory."""
    write_json(directory / "recommender.json", recommender.spec.model_dump(mode="json"))
    weights = recommender.state_dict()
    if isinstance(recommender.model, llm.Decoder):
        llm.save_decoder(recommender.model, directory / "decoder")
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("model.")}
    save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, directory / "model.safetensors")


def load_recommender(artifact: Artifact, embeddings: Artifact | None, device: str = "cpu") -> Recommender:
    """The recommender that `train_teacher` or `train_dueg` saved, in eval mode.

    Raises MolarError where a file is missing or corrupted.
    """
    spec = Spec.model_validate(json.loads(artifact.file("recommender.json").read_text("utf-8")))
    decoder = llm.load_decoder(artifact.verified() / "decoder") if spec.model == "llm" else None
    recommender = build(spec, embeddings, decoder)
    missing, unexpected = recommender.load_state_dict(load_file(artifact.file("model.safetensors")), strict=False)
    assert not unexpected and all(name.startswith("model.body.") for name in missing), (missing, unexpected)
    return recommender.to(device).eval()
