"""Whom an alignment follows: a trained recommender, or the score sum of two, frozen.

    T_ui = <t_u, t_i>                           `Frozen`, the ID teacher of the paper
    T_ui = s (a <t_u, t_i> + b <c_u, c_i>)      `SumTeacher`: t of the ID teacher, c of a DUEG over content alone

a and b are the score sum's (score_sum.py), its weight chosen on validation: what serving two models would rank is
learnt by one. A sum of scores ranks, but it leaves open how sure it is, and who learns its softmax learns that too: s
is the scale at which validation choices are likeliest.

Promise: nothing of a teacher is trained, and cold items have no part in it, as in every training.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.catalog.catalogue import Sequences
from pipeline.recommender import score_sum
from pipeline.recommender.batches import Batch
from pipeline.recommender.grid import Recommender
from pipeline.recommender.score_sum import ScoreSum

WEIGHTS = tuple(tenth / 10 for tenth in range(1, 10))  # of the ID teacher
SCALES = tuple(2 ** (step / 4) for step in range(-8, 29))  # 1/4 to 128; mixed scores have a standard deviation below 1
ASKED, BLOCK = 1024, 128  # validation choices that the scale is fitted to, and how many at once


class Teacher(Protocol):
    """What an alignment asks: vectors whose dot products are scores, all without gradients."""

    @property
    def items_VE(self) -> Tensor: ...  # of the items that training knows
    def users(self, batch: Batch) -> Tensor: ...  # (B, L, E), after every position


class Frozen:
    """A recommender as a teacher, from now on in eval mode and without gradients."""

    @torch.no_grad()
    def __init__(self, model: Recommender) -> None:
        self.model = model.eval().requires_grad_(False)
        self.table_VE = model.table.trained()  # once for all steps
        self.items_VE = model.compared(self.table_VE)

    @torch.no_grad()
    def users(self, batch: Batch) -> Tensor:
        """(B, L, E)."""
        return self.model.compared(self.model(batch.inputs_BL, batch.last_B, batch.users_B, self.table_VE))


class SumTeacher:
    """Both as one, their vectors side by side: items (V, E + D), users (B, L, E + D)."""

    def __init__(self, ids: Recommender, content: Recommender, mix: ScoreSum, scale: float = 1.0) -> None:
        self.ids, self.content = Frozen(ids), Frozen(content)
        self.mix, self.scale = mix, scale
        self.items_VE = torch.cat([self.ids.items_VE, self.content.items_VE], dim=1)

    def users(self, batch: Batch) -> Tensor:
        """(B, L, E + D); they carry factors and scale."""
        halves = self.mix.by_teacher * self.ids.users(batch), self.mix.by_dueg * self.content.users(batch)
        return self.scale * torch.cat(halves, dim=-1)

    def facts(self) -> dict[str, object]:
        """What validation chose, as JSON has it."""
        return {"weight": self.mix.weight, "scale": self.scale}


def fitted(sequences: Sequences, ids: Recommender, content: Recommender, mask_seen: bool, seed: int) -> SumTeacher:
    """The sum of the two, weight and scale by validation. Raises MolarError when there is no validation query."""
    device = str(next(ids.parameters()).device)
    mix = score_sum.choose(sequences, ids, content, WEIGHTS, mask_seen, device)
    validation = sequences.queries("validation")
    asked = np.sort(np.random.default_rng(seed).permutation(len(validation))[:ASKED])
    histories, target = validation.histories(sequences), validation.target[asked]
    summed = score_sum.Summed(ids, content, mix)
    users_QF = summed.user_vectors([histories[query] for query in asked], validation.user[asked])
    return SumTeacher(ids, content, mix, likeliest(users_QF, summed.item_vectors()[: sequences.num_warm], target))


def likeliest(users_QF: np.ndarray, items_VF: np.ndarray, targets_Q: np.ndarray) -> float:
    """The scale of the dot products at which a softmax over items makes the targets likeliest, out of `SCALES`."""
    losses = np.zeros(len(SCALES))
    for start in range(0, len(users_QF), BLOCK):
        scores_BV = torch.from_numpy(users_QF[start : start + BLOCK] @ items_VF.T)
        targets_B = torch.from_numpy(targets_Q[start : start + BLOCK].astype(np.int64))
        losses += [F.cross_entropy(scale * scores_BV, targets_B, reduction="sum").item() for scale in SCALES]
    return SCALES[int(losses.argmin())]
