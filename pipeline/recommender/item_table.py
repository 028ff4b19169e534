"""Item tables: item indices -> vectors, the same vectors for a user model's inputs and for its targets.

`IdTable` learns one vector per item (classic ID-based recommendation). `FeatureTable` sends frozen, conditioned
content embeddings through a small trained head (WhitenRec, ICDE 2024: a two-layer head beats a linear one), so it
has a vector for items that nobody has consumed yet. `SumTable` adds the two: what content cannot tell, the ID learns.
A cold item then has content alone, which is all that there is to know of it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

HeadKind = Literal["linear", "two-layer"]

INITIAL_STD = 0.02  # of ID embeddings; RecBole's and the BERT lineage's choice


class IdTable(nn.Module):
    """Trainable (num_trained, D); later items (cold ones) have no vector and get zeros."""

    def __init__(self, num_items: int, num_trained: int, dim: int) -> None:
        super().__init__()
        self.num_items, self.num_trained, self.dim = num_items, num_trained, dim
        self.weight = nn.Parameter(torch.empty(num_trained, dim).normal_(std=INITIAL_STD))

    def trained(self) -> Tensor:
        """(num_trained, D): the rows that a softmax runs over."""
        return self.weight

    def everything(self) -> Tensor:
        """(N, D), cold items zero."""
        return torch.cat([self.weight, self.weight.new_zeros(self.num_items - self.num_trained, self.dim)])


class FeatureTable(nn.Module):
    """Frozen features (N, F) -> head -> (N, D): Linear -> GELU -> Linear (`two-layer`), or Linear alone (`linear`; it
    has no use for `hidden` and `dropout`)."""

    features_NF: Tensor

    def __init__(
        self, features_NF: Tensor, num_trained: int, dim: int, kind: HeadKind, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_items, self.num_trained, self.dim = len(features_NF), num_trained, dim
        self.register_buffer("features_NF", features_NF, persistent=False)  # lives in the embeddings artifact
        width = features_NF.shape[1]
        self.head = (
            nn.Linear(width, dim)
            if kind == "linear"
            else nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
        )

    def trained(self, features_VF: Tensor | None = None) -> Tensor:
        """Of `features_VF` in place of those held, where they were encoded in this very step (joint.py)."""
        return self.head(self.features_NF[: self.num_trained] if features_VF is None else features_VF)

    def everything(self) -> Tensor:
        return self.head(self.features_NF)


class SumTable(nn.Module):
    """An item's ID vector, which starts near zero, plus its content's; cold items have the content's alone."""

    def __init__(self, ids: IdTable, content: FeatureTable) -> None:
        super().__init__()
        self.num_items, self.num_trained, self.dim = ids.num_items, ids.num_trained, ids.dim
        self.ids, self.content = ids, content

    def trained(self, features_VF: Tensor | None = None) -> Tensor:
        return self.ids.trained() + self.content.trained(features_VF)

    def everything(self) -> Tensor:
        return self.ids.everything() + self.content.everything()


ItemTable = IdTable | FeatureTable | SumTable
