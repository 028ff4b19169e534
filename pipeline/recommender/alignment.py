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

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.params.train_dueg import Alignment as AlignmentParams
from pipeline.recommender.batches import Batch
from pipeline.recommender.grid import Recommender

MAX_ALIGNED = 2048  # positions that enter one alignment matrix when every position is aligned


class Alignment(nn.Module):
    """User vectors (T, D) and teacher vectors (T, Dt) -> scalar loss, both directions summed as in the paper."""

    def __init__(self, dim: int, teacher_dim: int, temperature: float) -> None:
        super().__init__()
        self.adapter = nn.Linear(dim, teacher_dim)
        self.temperature = temperature

    def forward(self, users_TD: Tensor, teacher_TE: Tensor, user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
        no_negatives_TT = same_but_itself(user_ids_T, targets_T)
        return symmetric_info_nce(self.adapter(users_TD), teacher_TE, no_negatives_TT, self.temperature)


class Aligned:
    """alpha x L_align as a term of the loss of `student`: the frozen teacher, the adapter, and which positions."""

    name = "alignment"

    def __init__(self, teacher: Recommender, student: Recommender, params: AlignmentParams) -> None:
        self.teacher, self.params = teacher, params
        self.weight = params.weight
        device = next(student.parameters()).device
        self.module = Alignment(student.model.dim, teacher.model.dim, params.temperature).to(device)

    def weight_at(self, done: float) -> float:
        return self.weight

    def __call__(self, batch: Batch, users_BLD: Tensor, items_VD: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            table_VE = self.teacher.table.trained()
            teacher_BLE = self.teacher(batch.inputs_BL, batch.last_B, batch.users_B, table_VE)
        rows, columns = self._positions(batch)
        users, targets = batch.users_B[rows], batch.targets_BL[rows, columns]
        return self.module(users_BLD[rows, columns], teacher_BLE[rows, columns], users, targets), {}

    def _positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rows and columns of what is aligned."""
        device = batch.real_BL.device
        if self.params.positions == "last":
            return torch.arange(len(batch.real_BL), device=device), batch.last_B
        rows, columns = batch.real_BL.nonzero(as_tuple=True)
        if len(rows) > MAX_ALIGNED:
            kept = torch.randperm(len(rows), device=device)[:MAX_ALIGNED]
            rows, columns = rows[kept], columns[kept]
        return rows, columns
