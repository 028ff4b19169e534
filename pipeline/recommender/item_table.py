"""Item tables: item indices -> vectors, the same vectors for a user model's inputs and for its targets.

`IdTable` learns one vector per item (classic ID-based recommendation). `FeatureTable` sends frozen, conditioned
content embeddings through a small trained head (WhitenRec, ICDE 2024: a two-layer head beats a linear one), so it
has a vector for items that nobody has consumed yet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    """Frozen features (N, F) -> Linear -> GELU -> Linear -> (N, D)."""

    features_NF: Tensor

    def __init__(self, features_NF: Tensor, num_trained: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.num_items, self.num_trained, self.dim = len(features_NF), num_trained, dim
        self.register_buffer("features_NF", features_NF, persistent=False)  # lives in the embeddings artifact
        self.head = nn.Sequential(
            nn.Linear(features_NF.shape[1], hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )

    def trained(self) -> Tensor:
        return self.head(self.features_NF[: self.num_trained])

    def everything(self) -> Tensor:
        return self.head(self.features_NF)


ItemTable = IdTable | FeatureTable
