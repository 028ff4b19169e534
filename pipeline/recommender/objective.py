"""The recommendation loss, at every position t: a user vector u_t against the item table E (V, D), s = u . e the score.

    softmax   - log exp s_y / sum over all V of exp s_i                    y the next item; the default
    sampled   - log exp s_y / (exp s_y + sum_k exp(s_k - log E_k))         k the negatives, E_k how often k is expected
    nce       - log exp c_y / (exp c_y + sum_k exp c_k)                    c = cosine(u, e) / temperature
    bce       - log sigma(s_y) - log(1 - sigma(s_k))                       one negative k
    gbce      - 1/(K+1) [ beta log sigma(s_y) + sum_k log(1 - sigma(s_k)) ]

softmax stands in for the paper's binary cross-entropy with one negative (3.4), which is `bce`: Klenitskiy & Vasilev
(RecSys 2023) and others measured +36 % NDCG@10 for the same encoder on MovieLens-1M. The paper does not say whether its
two terms are added or averaged, nor what a score is: here it is as in SASRec, added, of dot products.

- sampled (Bengio & Senecal 2008; eSASRec): corrected, the sum estimates that over all other items without bias, if each
  may be drawn, so it tends to softmax as K grows. Without the correction (`log_q: false`) popular negatives teach their
  popularity away. One negative per position, not corrected, is BPR.
- nce is HLLM's: the temperature is learnt, its inverse kept within 1 and 100, and a negative whose cosine with the
  target is above `same` is none. HLLM's negatives are one per position of the batch, which all positions share: here
  as many as `negatives` says. A recommender trained so ranks by cosine (`Spec.cosine`).
- gbce (gSASRec, Petrov & Macdonald, RecSys 2023): beta = a (t (1 - 1/a) + 1/a), a = K / (V - 1), t the `calibration`;
  t = 0 is bce with K negatives, t = 1 undoes their overconfidence in full.

A shared negative that is a position's own target is left out there.

The T x V logits of softmax are never whole: torch works through them in blocks of positions, forward and backward at
once, so memory does not grow with the catalogue and, on a CPU, a block stays in cache (half the time of the plain loss
for 12,800 positions x 3,522 items). Of a large catalogue a block is 64 positions, however much cache they need: every
block reads and writes the whole item table, which at 300,000 items makes one position a block ten times slower.
Shared negatives cost T x K scores, negatives per position T x K x D numbers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.params.training import Objective as ObjectiveParams
from pipeline.recommender.negatives import Negatives

CPU_BLOCK_LOGITS = 2**19  # 2 MiB of float32, a core's L2 cache; best of 2^18..2^21 measured
CPU_LEAST_ROWS = 64  # of a block; 32 and 128 are as good at 20,000, 100,000 and 300,000 items, 16 is not
LARGEST_SCALE = math.log(100)  # of nce: 1 / temperature


class Objective(nn.Module):
    """Mean loss over T positions; a scalar. Trains the temperature of nce, which no ranking depends on."""

    def __init__(self, params: ObjectiveParams, counts_V: np.ndarray, seed: int) -> None:
        super().__init__()
        self.params = params
        self.negatives = None if params.kind == "softmax" else Negatives(params.draw, counts_V, seed)
        if params.kind == "nce":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(params.temperature)))

    def forward(self, users_TD: Tensor, items_VD: Tensor, targets_T: Tensor, step: int) -> Tensor:
        if self.negatives is None:
            return full_softmax(users_TD, items_VD, targets_T)
        if self.params.kind == "nce":
            users_TD, items_VD = F.normalize(users_TD, dim=-1), F.normalize(items_VD, dim=-1)
        target_TD = F.embedding(targets_T, items_VD)
        positive_T = (users_TD * target_TD).sum(-1)
        if self.params.kind != "bce" and self.params.drawn_per == "batch":
            drawn, log_expected = self.negatives.shared(self.params.negatives, step)
        else:
            count = 1 if self.params.kind == "bce" else self.params.negatives
            drawn, log_expected = self.negatives.own(targets_T, count, step)
        drawn, log_expected = drawn.to(targets_T.device), log_expected.to(users_TD)
        negative_TK = _scores(users_TD, items_VD, drawn)
        no_negative_TK = drawn == targets_T[:, None]
        match self.params.kind:
            case "sampled":
                corrected_TK = negative_TK - log_expected if self.params.log_q else negative_TK
                return _first_of(positive_T, corrected_TK, no_negative_TK)
            case "nce":
                alike_TK = _scores(target_TD.detach(), items_VD.detach(), drawn) > self.params.same
                with torch.no_grad():
                    self.log_scale.clamp_(0, LARGEST_SCALE)
                scale = self.log_scale.exp()
                return _first_of(scale * positive_T, scale * negative_TK, no_negative_TK | alike_TK)
            case "bce":
                return (F.softplus(-positive_T) + F.softplus(negative_TK[:, 0])).mean()
        beta = positive_weight(self.params.negatives, len(items_VD), self.params.calibration)
        against_T = F.softplus(negative_TK).masked_fill(no_negative_TK, 0).sum(-1)
        return (beta * F.softplus(-positive_T) + against_T).mean() / (self.params.negatives + 1)


def full_softmax(users_TD: Tensor, items_VD: Tensor, targets_T: Tensor) -> Tensor:
    """Mean cross-entropy over T positions; a scalar."""
    of_cache = max(CPU_LEAST_ROWS, CPU_BLOCK_LOGITS // len(items_VD))
    rows = of_cache if users_TD.device.type == "cpu" else None  # None: torch's pick
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows)
    return F.linear_cross_entropy(users_TD, items_VD, targets_T, options=options)


def positive_weight(negatives: int, items: int, calibration: float) -> float:
    """gSASRec's beta."""
    rate = negatives / (items - 1)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def _scores(users_TD: Tensor, items_VD: Tensor, drawn: Tensor) -> Tensor:
    """(T, K): of each user with the shared items (K,), or with their own (T, K)."""
    if drawn.ndim == 1:
        return users_TD @ F.embedding(drawn, items_VD).T
    return torch.einsum("td,tkd->tk", users_TD, F.embedding(drawn, items_VD))


def _first_of(positive_T: Tensor, negative_TK: Tensor, no_negative_TK: Tensor) -> Tensor:
    """Mean cross-entropy of the positive among itself and its negatives."""
    logits_TM = torch.cat([positive_T[:, None], negative_TK.masked_fill(no_negative_TK, float("-inf"))], dim=1)
    return F.cross_entropy(logits_TM, logits_TM.new_zeros(len(logits_TM), dtype=torch.long))
