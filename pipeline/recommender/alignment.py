"""Post-alignment (paper 3.4): symmetric InfoNCE between a user's content vector and the frozen teacher's.

    L_align = - 1/|U| sum_u [ log  exp(s(Eid_u, Econ_u)/tau) / sum_j exp(s(Eid_u, Econ_j)/tau)
                            + log  exp(s(Econ_u, Eid_u)/tau) / sum_j exp(s(Econ_u, Eid_j)/tau) ],   s = cosine

Negatives j are the other users of the batch, except those that are no negatives at all: another window of the same
user, and a user who went on to the same target. The paper leaves open whether the teacher is frozen (here: yes),
where negatives come from (in-batch) and how widths are matched (a linear adapter on the content side).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Alignment(nn.Module):
    """User vectors (T, D) and teacher vectors (T, Dt) -> scalar loss, both directions summed as in the paper."""

    def __init__(self, dim: int, teacher_dim: int, temperature: float) -> None:
        super().__init__()
        self.adapter = nn.Linear(dim, teacher_dim)
        self.temperature = temperature

    def forward(self, users_TD: Tensor, teacher_TE: Tensor, user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
        content_TE = F.normalize(self.adapter(users_TD), dim=-1)
        similarity_TT = content_TE @ F.normalize(teacher_TE, dim=-1).T / self.temperature
        similarity_TT = similarity_TT.masked_fill(false_negatives(user_ids_T, targets_T), float("-inf"))
        own_T = torch.arange(len(users_TD), device=users_TD.device)
        return F.cross_entropy(similarity_TT, own_T) + F.cross_entropy(similarity_TT.T, own_T)


def false_negatives(user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
    """(T, T) bool: pairs of the same user or the same target, the diagonal (the positives) excepted."""
    same_TT = (user_ids_T[:, None] == user_ids_T) | (targets_T[:, None] == targets_T)
    return same_TT.fill_diagonal_(False)
