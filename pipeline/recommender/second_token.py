"""CoLLM's idea (Zhang et al., 2023): beside what an item says, the LLM reads what collaborative filtering knows of it.

After an item's own vector comes a token of the frozen teacher's item vector, carried into the decoder's input space by
CoLLM's two layers (E -> 10 E -> ReLU -> D). The user vector after an item is read at its second token.

CoLLM itself cannot rank a catalogue: it reads one user and one candidate in a text prompt and answers yes or no, and
Molar's paper does not say how it made it rank. Our reading keeps the mapping and the extra token and puts both into the
user model of the grid: interleaved (a token each, twice the positions) and not summed, because a sum is an item table
(`items: id+mirm` is one). Cold items, of which the teacher knows nothing, have its zero vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDER = 10  # CoLLM's


class SecondToken(nn.Module):
    """Item vectors (B, L, D) and which items they are (B, L) -> (B, 2L, D), second tokens at the odd places."""

    vectors_NE: Tensor

    def __init__(self, vectors_NE: Tensor, dim: int) -> None:
        super().__init__()
        width = vectors_NE.shape[1]
        self.register_buffer("vectors_NE", vectors_NE)  # saved with the weights: serving needs no teacher
        self.map = nn.Sequential(nn.Linear(width, WIDER * width), nn.ReLU(), nn.Linear(WIDER * width, dim))

    def forward(self, items_BLD: Tensor, inputs_BL: Tensor) -> Tensor:
        return torch.stack([items_BLD, self.map(self.vectors_NE[inputs_BL])], dim=2).flatten(1, 2)
