"""The score sum as the teacher of an alignment: what serving two models would rank, learnt by one.

    T_ui = s (a t_u . t_i + b c_u . c_i)      t the ID teacher's vectors, c those of a DUEG over content alone

a and b are the score sum's (score_sum.py), its weight chosen on validation. A sum of scores ranks, but it leaves open
how sure it is, and who learns its softmax learns that too: s is the scale at which validation choices are likeliest.

Promise: both models are frozen, and cold items have no part in it, as in every training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.catalog.catalogue import Sequences
from pipeline.recommender import score_sum
from pipeline.recommender.grid import Recommender
from pipeline.recommender.score_sum import ScoreSum

WEIGHTS = tuple(tenth / 10 for tenth in range(1, 10))  # of the ID teacher
SCALES = tuple(2 ** (step / 4) for step in range(-8, 29))  # 1/4 to 128; mixed scores have a standard deviation below 1
ASKED, BLOCK = 1024, 128  # validation choices that the scale is fitted to, and how many at once


class SumTeacher(nn.Module):
    """Both models as one: item vectors (V, E + D), user vectors (B, L, E + D), their dot products the scores."""

    ids_VE: Tensor
    content_VD: Tensor
    items_VF: Tensor

    def __init__(self, ids: Recommender, content: Recommender, mix: ScoreSum, scale: float = 1.0) -> None:
        super().__init__()
        self.ids, self.content = ids.eval().requires_grad_(False), content.eval().requires_grad_(False)
        self.mix, self.scale = mix, scale
        with torch.no_grad():  # frozen, so once for all steps: what each reads, and what both are compared by
            for name, model in (("ids_VE", self.ids), ("content_VD", self.content)):
                self.register_buffer(name, model.table.trained(), persistent=False)
            both = self.ids.compared(self.ids_VE), self.content.compared(self.content_VD)
            self.register_buffer("items_VF", torch.cat(both, dim=1), persistent=False)

    @torch.no_grad()
    def forward(self, inputs_BL: Tensor, last_B: Tensor, users_B: Tensor, items_VF: Tensor) -> Tensor:
        """User vectors at every position, as `Recommender`'s; the items are those that it holds anyway."""
        halves = [
            factor * model.compared(model(inputs_BL, last_B, users_B, rows))
            for model, rows, factor in (
                (self.ids, self.ids_VE, self.mix.by_teacher),
                (self.content, self.content_VD, self.mix.by_dueg),
            )
        ]
        return self.scale * torch.cat(halves, dim=-1)

    @property
    def table(self) -> SumTeacher:
        """Itself, whose rows `trained` gives."""
        return self

    def trained(self) -> Tensor:
        """(V, E + D)."""
        return self.items_VF

    def compared(self, vectors: Tensor) -> Tensor:
        """As they are: each model has compared its own."""
        return vectors


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
