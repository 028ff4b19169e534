"""Post-alignment (paper 3.4): symmetric InfoNCE between a user's content vector and the frozen teacher's.

    L_align = - 1/|U| sum_u [ log  exp(s(Eid_u, Econ_u)/tau) / sum_j exp(s(Eid_u, Econ_j)/tau)
                            + log  exp(s(Econ_u, Eid_u)/tau) / sum_j exp(s(Econ_u, Eid_j)/tau) ],   s = cosine

Negatives j are the other users of the batch, except those that are no negatives at all: another window of the same
user, and a user who went on to the same target. The paper leaves open whether the teacher is frozen (here: yes),
where negatives come from (in-batch) and how widths are matched (a linear adapter on the content side).
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.contrast import same_but_itself, symmetric_info_nce


class Alignment(nn.Module):
    """User vectors (T, D) and teacher vectors (T, Dt) -> scalar loss, both directions summed as in the paper."""

    def __init__(self, dim: int, teacher_dim: int, temperature: float) -> None:
        super().__init__()
        self.adapter = nn.Linear(dim, teacher_dim)
        self.temperature = temperature

    def forward(self, users_TD: Tensor, teacher_TE: Tensor, user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
        no_negatives_TT = same_but_itself(user_ids_T, targets_T)
        return symmetric_info_nce(self.adapter(users_TD), teacher_TE, no_negatives_TT, self.temperature)
