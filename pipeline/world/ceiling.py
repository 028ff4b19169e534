"""The attainable ceiling of the demo world: the best ranking for who sees a history, not the taste behind it.

The oracle knows each user's hidden taste, which no model can. What none can beat, on average over users, is a ranking
by P(next item | history) under the process that drew the choices. Why that is optimal for NDCG@10: a query has one
relevant item, so NDCG@10 is 1 / log2(2 + rank) where the rank is below 10 and 0 elsewhere, and its expectation
given the history is the sum over places of that place's gain times the posterior probability of the item put there.
Gains fall with the place, so by the rearrangement inequality the sum is largest when probabilities fall as well.
Posterior means of probabilities count, not of logits.

The filter is a particle filter whose particles are enumerated instead of drawn. A user's taste is one pair of values
per factor; factors are independent a priori and in a choice's numerator, and only drift (one factor at a time) and
the softmax's normaliser tie them. A few weighted classes of pairs of every factor (pipeline/world/support.py) are
therefore crossed, and over this grid predicting, weighing and the normaliser are matrix products: a state costs some
hundredth of a free-standing particle, nothing is resampled, and paths are summed, not drawn. Errors come from
classes drawn to stand for others, which independent runs show, and from lumping, which no repetition shows and more
states undo: compare two numbers of states to see both (docs/results.md). Any error
makes the ranking that of a lesser model which still sees the history alone: in expectation it can only lower the
figure. Where the states suffice for all pairs the filter is exact.

Promise: a score depends on the choices before the query alone. Deterministic.

Shape suffixes: R runs, T choices of a history, N items, Q queries; L the kept classes of category x community and
C their values, M those of colour x shape x brand and D their values, J different items of a history.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from pipeline.errors import MolarError
from pipeline.progress import bar
from pipeline.world.oracle import Truth
from pipeline.world.process import FACTORS, SECOND_AFFINITY
from pipeline.world.support import Pilot, Support, pairs_of, supports

RUNS = 2  # independent, half of the states each: their difference is the Monte-Carlo error
LEFT, RIGHT = (0, 4), (1, 2, 3)  # columns of FACTORS; left those that the last choice pulls at as well
LARGEST_LOGIT = 300.0  # sum of the weights, so that no product of exponentials leaves float64
BLOCK = 256  # histories that the rough filter reads at once


class Ceiling:
    """The filter for one world, with about `states` joint states per query, in all runs together."""

    def __init__(self, truth: Truth, states: int) -> None:
        weights, items = truth.weights, truth.items
        pull = (weights.category, weights.colour, weights.shape, weights.brand, weights.community)
        if sum(pull) + 2 * weights.repeat_last + abs(weights.seen) > LARGEST_LOGIT:
            raise MolarError(
                f"demo.weights sum to more than the {LARGEST_LOGIT:g} that the ceiling can compute with: "
                "lower them or set evaluate.ceiling to 0"
            )
        self.truth, self.drift, self.states = truth, truth.drift, max(states // RUNS, 1)
        self.pilot = Pilot(items, weights, truth.drift)
        self.repeat, self.return_ = math.exp(weights.repeat_last), math.exp(weights.seen)
        self.values = list(FACTORS.values())
        # what a value of the choice adds for a pair, as a factor of the probability; at most 1, the logits' top is 0
        self.taste_FSV = [_taste(values, weight) for values, weight in zip(self.values, pull, strict=True)]
        self.left_N, self.left_values = self._cells(LEFT)
        self.right_N, right_values = self._cells(RIGHT)
        popularity_N = weights.popularity * items.log_popularity_N
        self.base_N = np.exp(popularity_N - popularity_N.max())
        self.base_CD = {}  # of the items that can be chosen: ordinary ones, cold ones
        for cold in (False, True):
            self.base_CD[cold] = np.zeros((self.left_values, right_values))
            of_kind = items.cold_N == cold
            np.add.at(self.base_CD[cold], (self.left_N[of_kind], self.right_N[of_kind]), self.base_N[of_kind])

    def scores(self, histories: Sequence[np.ndarray], colds: Sequence[bool], seed: int = 0) -> np.ndarray:
        """P(next item | history) by each run, times what the run believes of the history: float32 (R, Q, N).

        `histories` are rows of items, oldest first, `colds` whether the choice is among cold items (all others then
        have probability 0). The sum over runs ranks as the pooled filter does, each run by itself as one of half the
        size. Memory: 8 Q N bytes.
        """
        factors_NF = self.truth.items.factors_NF
        found_RQN = np.empty((RUNS, len(histories), len(factors_NF)), np.float32)
        uniform_QFR = np.random.default_rng(seed).random((len(histories), len(FACTORS), RUNS))
        by_length = np.argsort([len(history) for history in histories], kind="stable")
        with bar("ceiling", total=len(histories), unit="queries") as progress:
            for start in range(0, len(histories), BLOCK):
                block = by_length[start : start + BLOCK]
                plausible_FBS = self.pilot.plausible([factors_NF[histories[query]] for query in block])
                for row, query in enumerate(block):
                    history_T, plausible_FS = histories[query], [plausible_BS[row] for plausible_BS in plausible_FBS]
                    kept_F = supports(factors_NF[history_T], plausible_FS, self.states, uniform_QFR[query])
                    found_RQN[:, query] = self._filtered(history_T, colds[query], kept_F)
                progress.advance(len(block))
        return found_RQN

    def _filtered(self, history_T: np.ndarray, cold: bool, kept_F: Sequence[Support]) -> np.ndarray:
        """One query over one grid of kept classes: (R, N)."""
        taste_FRKV = [kept.share_RKS @ taste_SV for kept, taste_SV in zip(kept_F, self.taste_FSV, strict=True)]
        left_RLC, right_RMD = (functools.reduce(_crossed, [taste_FRKV[f] for f in side]) for side in (LEFT, RIGHT))
        redraws_RLL, redraws_RMM = (self._redraws([kept_F[f].prior_RK for f in side]) for side in (LEFT, RIGHT))
        redraws_RLL = redraws_RLL + (1 - self.drift) * np.eye(left_RLC.shape[1])  # most often nothing is redrawn
        prior_L, prior_M = (functools.reduce(_outer, [kept_F[f].prior_RK for f in side]) for side in (LEFT, RIGHT))
        state_RLM = prior_L[:, :, None] * prior_M[:, None]
        log_evidence_R = np.zeros(RUNS)
        pulled_TC = self._pulled(history_T)  # before each choice, and before the query's
        likelihood_RTLM = (
            left_RLC[:, :, self.left_N[history_T]].swapaxes(1, 2)[..., None]
            * (right_RMD[:, :, self.right_N[history_T]].swapaxes(1, 2)[:, :, None])
        )
        likelihood_RTLM /= self._normalisers(
            history_T, np.arange(len(history_T)), pulled_TC, left_RLC, right_RMD, False
        )
        for step in range(len(history_T)):
            state_RLM *= likelihood_RTLM[:, step]
            total_R = state_RLM.sum(axis=(1, 2))
            log_evidence_R += np.log(total_R)
            state_RLM /= total_R[:, None, None]
            state_RLM = redraws_RLL @ state_RLM + state_RLM @ redraws_RMM.swapaxes(1, 2)
        now = np.array([len(history_T)])
        state_RLM /= self._normalisers(history_T, now, pulled_TC, left_RLC, right_RMD, cold)[:, 0]
        expected_RCD = left_RLC.swapaxes(1, 2) @ state_RLM @ right_RMD
        chances_RN = expected_RCD[:, self.left_N, self.right_N] * self.base_N * pulled_TC[-1, self.left_N]
        chances_RN[:, history_T] = chances_RN[:, history_T] * self.return_  # once, however often it was chosen
        chances_RN[:, self.truth.items.cold_N != cold] = 0
        return chances_RN * np.exp(log_evidence_R - log_evidence_R.max())[:, None]

    def _normalisers(
        self,
        history_T: np.ndarray,
        steps: np.ndarray,
        pulled_TC: np.ndarray,
        left_RLC: np.ndarray,
        right_RMD: np.ndarray,
        cold: bool,
    ) -> np.ndarray:
        """The softmax's denominator for every state at each of these steps: (R, steps, L, M).

        All items by their values, plus what a return changes item by item, in one matrix product.
        """
        chosen_J, first_J = np.unique(history_T, return_index=True)
        # an item of a history is never a cold one, so that no return changes a cold choice
        change_TJ = (self.return_ - 1) * self.base_N[chosen_J] * ((steps[:, None] > first_J) & (not cold))
        weight_TC = pulled_TC[steps]
        left_RTLC = np.concatenate(
            [
                left_RLC[:, None] * weight_TC[:, None],
                left_RLC[:, None, :, self.left_N[chosen_J]]
                * (change_TJ * weight_TC[:, self.left_N[chosen_J]])[:, None],
            ],
            axis=-1,
        )
        right_RCM = np.concatenate(
            [self.base_CD[cold] @ right_RMD.swapaxes(1, 2), right_RMD[:, :, self.right_N[chosen_J]].swapaxes(1, 2)],
            axis=1,
        )
        runs, times, left, width = left_RTLC.shape
        return (left_RTLC.reshape(runs, times * left, width) @ right_RCM).reshape(runs, times, left, right_RCM.shape[2])

    def _pulled(self, history_T: np.ndarray) -> np.ndarray:
        """(T + 1, C): what the choice just before adds to each value of category x community, as a factor."""
        pulled_TC = np.ones((len(history_T) + 1, self.left_values))
        values_2C = np.stack(np.unravel_index(np.arange(self.left_values), [self.values[f] for f in LEFT]))
        last_T2 = self.truth.items.factors_NF[history_T][:, LEFT]
        pulled_TC[1:] = self.repeat ** (last_T2[:, :, None] == values_2C).sum(axis=1)
        return pulled_TC

    def _redraws(self, priors: Sequence[np.ndarray]) -> np.ndarray:
        """(R, L, L), to by from: the chance that a step redraws one of these factors, and where its prior sends it."""
        kept = [prior_RK.shape[1] for prior_RK in priors]
        moves = np.zeros((len(priors[0]), *kept, *kept))  # run, classes after, classes before
        after = list(range(1, len(kept) + 1))
        for factor, prior_RK in enumerate(priors):
            before = [*after[:factor], len(kept) + 1, *after[factor + 1 :]]
            others = [axis for axis in after if axis != after[factor]]
            # a view of the entries at which the others stay what they are
            view = np.einsum(moves, [0, *after, *before], [0, *others, after[factor], before[factor]])
            view += (self.drift / len(FACTORS) * prior_RK).reshape(len(prior_RK), *(1,) * len(others), -1, 1)
        size = math.prod(kept)
        return moves.reshape(-1, size, size)

    def _cells(self, columns: Sequence[int]) -> tuple[np.ndarray, int]:
        """Each item's values of these factors as one number, and how many numbers there are."""
        values = [self.values[f] for f in columns]
        factors_FN = self.truth.items.factors_NF[:, columns].T.astype(np.int64)
        return np.ravel_multi_index(tuple(factors_FN), values), math.prod(values)


def _taste(values: int, weight: float) -> np.ndarray:
    """(S, V): exp(weight x (affinity - 1)) of every pair for every value."""
    pairs_S2 = pairs_of(values)
    affinity_SV = np.zeros((len(pairs_S2), values))
    affinity_SV[np.arange(len(pairs_S2)), pairs_S2[:, 0]] = 1
    affinity_SV[np.arange(len(pairs_S2)), pairs_S2[:, 1]] = SECOND_AFFINITY
    return np.exp(weight * (affinity_SV - 1))


def _crossed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kronecker product of (R, K, V) arrays within each run."""
    product = one[:, :, None, :, None] * other[:, None, :, None, :]
    return product.reshape(len(product), one.shape[1] * other.shape[1], -1)


def _outer(one_RK: np.ndarray, other_RK: np.ndarray) -> np.ndarray:
    """Products of all pairs within each run, (R, K x K'), the first one's slow."""
    return (one_RK[:, :, None] * other_RK[:, None]).reshape(len(one_RK), -1)
