"""Post-alignment (paper 3.4): symmetric InfoNCE between a user's content vector and the frozen teacher's.

    L_align = - 1/|U| sum_u [ log  exp(s(Eid_u, Econ_u)/tau) / sum_j exp(s(Eid_u, Econ_j)/tau)
                            + log  exp(s(Econ_u, Eid_u)/tau) / sum_j exp(s(Econ_u, Eid_j)/tau) ],   s = cosine

Negatives j are the other users of the batch, except those that are no negatives at all: another window of the same
user, and a user who went on to the same target. The paper leaves open whether the teacher is frozen (here: yes),
where negatives come from (in-batch) and how widths are matched (a linear adapter on the content side).

Other ways to bring the two together, for the same switch (`alignment.kind`):

    mse       mean of |a(Econ_u) - Eid_u|^2 / width                        a the adapter
    cosine    mean of 1 - s(a(Econ_u), Eid_u)
    scores    mean of KL( softmax(Eid_u . Eid_i / tau) || softmax(Econ_u . Econ_i / tau) ) over items i, drawn anew each
              step from trained ones, the same for all users: no adapter, the tastes should agree and not the spaces;
              of the ID teacher, or of its score sum with a DUEG over content alone (teacher.py)

`queue` pairs of earlier batches (MoCo's, He et al. 2020) join InfoNCE's negatives as they were then, without gradients;
the same user and the same target are left out there too. `subspace` n aligns the first n coordinates of the user vector
alone (of scores: of users and items), the simplest fixed projection: no gradient of alignment reaches the others, where
what the teacher cannot know, a cold item's looks above all, may stay undisturbed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.errors import MolarError
from pipeline.params.train_dueg import Alignment as AlignmentParams
from pipeline.recommender.batches import Batch
from pipeline.recommender.grid import Recommender
from pipeline.recommender.teacher import Teacher

MAX_ALIGNED = (
    2048  # positions of a batch that `positions: all` aligns, drawn anew each step: InfoNCE's matrix is square
)
SCORED = 3  # of (seed, step, this): a stream of its own beside batches, negatives and partners


class Alignment(nn.Module):
    """User vectors (T, D) and teacher vectors (T, E) -> scalar loss: `infonce` (both directions summed, as in the
    paper), `mse` or `cosine`."""

    def __init__(
        self, dim: int, teacher_dim: int, temperature: float, kind: str = "infonce", queue: int = 0, subspace: int = 0
    ) -> None:
        super().__init__()
        self.adapter = nn.Linear(subspace or dim, teacher_dim)
        self.temperature, self.kind = temperature, kind
        self.earlier = Queue(queue, teacher_dim) if queue and kind == "infonce" else None

    def forward(self, users_TD: Tensor, teacher_TE: Tensor, user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
        adapted_TE = self.adapter(users_TD[:, : self.adapter.in_features])
        if self.kind == "mse":
            return F.mse_loss(adapted_TE, teacher_TE)
        if self.kind == "cosine":
            return (1 - F.cosine_similarity(adapted_TE, teacher_TE, dim=-1)).mean()
        no_negatives_TT = same_but_itself(user_ids_T, targets_T)
        if self.earlier is None:
            return symmetric_info_nce(adapted_TE, teacher_TE, no_negatives_TT, self.temperature)
        adapted_TE, teacher_TE = F.normalize(adapted_TE, dim=-1), F.normalize(teacher_TE, dim=-1)
        masked_TS = torch.cat([no_negatives_TT, self.earlier.no_negatives(user_ids_T, targets_T)], dim=1)
        own_T = torch.arange(len(users_TD), device=users_TD.device)
        loss = users_TD.new_zeros(())
        for one_TE, others_SE in (
            (adapted_TE, torch.cat([teacher_TE, self.earlier.teacher_QE])),
            (teacher_TE, torch.cat([adapted_TE, self.earlier.adapted_QE])),
        ):
            similarity_TS = (one_TE @ others_SE.T / self.temperature).masked_fill(masked_TS, float("-inf"))
            loss = loss + F.cross_entropy(similarity_TS, own_T)
        self.earlier.push(adapted_TE, teacher_TE, user_ids_T, targets_T)
        return loss


class Queue(nn.Module):
    """The last Q pairs (adapted, teacher), both of length 1, with whose they are and what came next. Part of a
    checkpoint, so that a resumed training has the negatives of an undisturbed one."""

    adapted_QE: Tensor
    teacher_QE: Tensor
    users_Q: Tensor
    targets_Q: Tensor
    next: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        for name in ("adapted_QE", "teacher_QE"):
            self.register_buffer(name, torch.zeros(size, dim))
        for name in ("users_Q", "targets_Q"):
            self.register_buffer(name, torch.full((size,), -1))  # -1: a place not filled yet
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def no_negatives(self, user_ids_T: Tensor, targets_T: Tensor) -> Tensor:
        """(T, Q) bool: the same user, the same target, or no pair at all."""
        return (user_ids_T[:, None] == self.users_Q) | (targets_T[:, None] == self.targets_Q) | (self.users_Q < 0)

    @torch.no_grad()
    def push(self, *pairs: Tensor) -> None:
        """Put adapted (T, E), teacher (T, E), users (T,) and targets (T,) in the oldest pairs' places."""
        kept = [part[-len(self.users_Q) :] for part in pairs]
        at = (self.next + torch.arange(len(kept[0]), device=self.next.device)) % len(self.users_Q)
        for place, part in zip((self.adapted_QE, self.teacher_QE, self.users_Q, self.targets_Q), kept, strict=True):
            place[at] = part
        self.next.copy_((self.next + len(at)) % len(self.users_Q))


def score_distillation(student_TS: Tensor, teacher_TS: Tensor, temperature: float) -> Tensor:
    """Mean over T of KL(teacher || student), both a softmax over the S items scored; a scalar."""
    student_TS, teacher_TS = (F.log_softmax(scores / temperature, dim=-1) for scores in (student_TS, teacher_TS))
    return F.kl_div(student_TS, teacher_TS, log_target=True, reduction="batchmean")


class Aligned:
    """alpha x L_align as a term of the loss of `student`: the frozen teacher, the adapter, and which positions.

    Raises MolarError for a subspace wider than the user vector.
    """

    name = "alignment"

    def __init__(self, teacher: Teacher, student: Recommender, params: AlignmentParams, seed: int) -> None:
        dim, subspace = student.model.dim, params.subspace or 0
        if subspace > dim:
            raise MolarError(f"train_dueg.alignment.subspace = {subspace}: user vectors have {dim} coordinates")
        self.teacher, self.student, self.params, self.seed = teacher, student, params, seed
        self.weight = params.weight
        self.module: Alignment | None = None
        if params.kind != "scores":
            width = teacher.items_VE.shape[1]
            module = Alignment(dim, width, params.temperature, params.kind, params.queue, subspace)
            self.module = module.to(next(student.parameters()).device)

    def weight_at(self, done: float) -> float:
        """alpha, or its share while it grows linearly over the first `weight_warmup` of all epochs."""
        return self.weight * min(1.0, done / self.params.weight_warmup) if self.params.weight_warmup else self.weight

    def __call__(self, batch: Batch, users_BLD: Tensor, items_VD: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        teacher_BLE = self.teacher.users(batch)
        rows, columns = self._positions(batch)
        users_TD, teacher_TE = users_BLD[rows, columns], teacher_BLE[rows, columns]
        if self.module is None:
            loss = self._scores(users_TD, items_VD, teacher_TE, step)
        else:
            loss = self.module(users_TD, teacher_TE, batch.users_B[rows], batch.targets_BL[rows, columns])
        return loss, {}

    def _scores(self, users_TD: Tensor, items_VD: Tensor, teacher_TE: Tensor, step: int) -> Tensor:
        count = min(self.params.scored_items, len(items_VD))
        drawn = np.random.default_rng([self.seed, step, SCORED]).choice(len(items_VD), count, replace=False)
        drawn_S = torch.from_numpy(drawn).to(users_TD.device)
        width = self.params.subspace or users_TD.shape[1]
        users_TW, items_SW = (self.student.compared(of[:, :width]) for of in (users_TD, items_VD[drawn_S]))
        teacher_TS = teacher_TE @ self.teacher.items_VE[drawn_S].T
        return score_distillation(users_TW @ items_SW.T, teacher_TS, self.params.temperature)

    def _positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rows and columns of what is aligned."""
        device = batch.asked_BL.device
        if self.params.positions == "last":
            return torch.arange(len(batch.asked_BL), device=device), batch.last_B
        rows, columns = batch.asked_BL.nonzero(as_tuple=True)
        if len(rows) > MAX_ALIGNED:
            kept = torch.randperm(len(rows), device=device)[:MAX_ALIGNED]
            rows, columns = rows[kept], columns[kept]
        return rows, columns
