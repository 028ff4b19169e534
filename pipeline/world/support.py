"""Which hidden states the filter of pipeline/world/ceiling.py enumerates: a few classes of every factor, weighted.

A user's state of one factor is an ordered pair of its values (liked most, second), 12 to 90 of them, and the joint
state has 101 million. Two things make that few enough.

Lumping: values that the user has never chosen are alike but for what the shop holds, so pairs that differ in these
only share a class, whose pull at an item is its pairs' mean. This is no exact lumping: which unseen value it is also
moves the softmax's normaliser, and so the class's posterior. The unseen values are split into as many groups as
the states allow, in the end into single values: then no class holds two pairs.

Drawing: of each factor the plausible classes are kept, and of the others a few are drawn that stand for all (Fearnhead
and Clifford, 2003, "On-line inference for hidden Markov models via particle filters", section 3.2): what is kept with
probability p carries 1/p times its prior mass, so the filter over what is kept is an unbiased estimate of the
filter over all classes. What is plausible is said by a rough filter that reads one factor at a time; the rougher it
is, the noisier the estimate, but it stays unbiased. Where every class is kept nothing is random.

Promise: only the history that is given is looked at, and equal arguments give the same support.

Shape suffixes: F factors, V values of one, S pairs of one, C classes of pairs, K kept ones, R independent runs,
B histories of a block, T choices, N items.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.params.demo import DemoWeights
from pipeline.world.process import FACTORS, Items, Moments, log_probabilities

PILOT_STATES = 400  # random users whose choices tell how much one choice says about one factor


@dataclass(frozen=True)
class Support:
    """What is kept of one factor in each run: classes, and the prior mass that each stands for."""

    share_RKS: np.ndarray  # of each pair in the class; sums to 1
    prior_RK: np.ndarray


@functools.cache
def pairs_of(values: int) -> np.ndarray:
    """All ordered pairs of different values: int (S, 2), equally likely a priori."""
    first, second = np.divmod(np.arange(values * values), values)
    return np.stack([first, second], axis=1)[first != second]


def supports(
    history_TF: np.ndarray, plausible_FS: Sequence[np.ndarray], states: int, uniform_FR: np.ndarray
) -> list[Support]:
    """What is kept of every factor after this history, so that at most `states` joint states result in each run."""
    values_F = list(FACTORS.values())
    seen_F = [np.unique(history_TF[:, factor]) for factor in range(len(values_F))]
    groups = _groups([len(seen) for seen in seen_F], values_F, states)
    classes_F = [_classes(seen, values, groups) for seen, values in zip(seen_F, values_F, strict=True)]
    mass_FC = [pair_CS @ plausible_S for pair_CS, plausible_S in zip(classes_F, plausible_FS, strict=True)]
    return [
        _drawn(pair_CS, mass_C, kept, uniform_R)
        for pair_CS, mass_C, kept, uniform_R in zip(
            classes_F, mass_FC, _sizes(mass_FC, states), uniform_FR, strict=True
        )
    ]


class Pilot:
    """The rough filter: factors drift and are observed independently of each other, every choice is the first."""

    def __init__(self, items: Items, weights: DemoWeights, drift: float) -> None:
        self.redraw = drift / len(FACTORS)
        self.seen_as_FSV = _likelihoods(items, weights)

    def plausible(self, histories: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Posterior mass of every factor's pairs, given the values (T, F) of each history's choices: F arrays (B, S).

        Half of it is the mass after the last choice, which the ranking needs, and half the mean over all choices:
        a taste that drifted away must be there to explain the choices before.
        """
        lengths_B = np.array([len(values_TF) for values_TF in histories])
        found = []
        for column, seen_as_SV in enumerate(self.seen_as_FSV):
            pairs = len(seen_as_SV)
            likelihood_BTS = np.ones((len(histories), max(int(lengths_B.max()), 1), pairs))
            for row, values_TF in enumerate(histories):
                likelihood_BTS[row, : len(values_TF)] = seen_as_SV[:, values_TF[:, column]].T
            smoothed_BTS = self._smoothed(likelihood_BTS)
            real_BT = np.arange(smoothed_BTS.shape[1]) < lengths_B[:, None]
            mean_BS = (smoothed_BTS * real_BT[:, :, None]).sum(axis=1) / np.maximum(lengths_B, 1)[:, None]
            last_BS = smoothed_BTS[np.arange(len(histories)), np.maximum(lengths_B - 1, 0)]
            found.append(np.where(lengths_B[:, None] > 0, (mean_BS + last_BS) / 2, 1 / pairs))
        return found

    def _smoothed(self, likelihood_BTS: np.ndarray) -> np.ndarray:
        """Forward and backward over a block: P(pair at t | all of the history), (B, T, S)."""
        steps = likelihood_BTS.shape[1]
        forward_BTS, backward_BTS = np.empty_like(likelihood_BTS), np.ones_like(likelihood_BTS)
        state_BS = np.ones_like(likelihood_BTS[:, 0])
        for step in range(steps):
            state_BS = self._drifted(_shares(state_BS)) * likelihood_BTS[:, step]
            forward_BTS[:, step] = state_BS
        for step in range(steps - 1, 0, -1):
            ahead_BS = _shares(backward_BTS[:, step] * likelihood_BTS[:, step])
            backward_BTS[:, step - 1] = self._drifted(ahead_BS)
        return _shares(forward_BTS * backward_BTS)

    def _drifted(self, state_BS: np.ndarray) -> np.ndarray:
        return (1 - self.redraw) * state_BS + self.redraw * state_BS.mean(axis=-1, keepdims=True)


def _groups(seen_F: Sequence[int], values_F: Sequence[int], states: int) -> int:
    """Into how many groups the unseen values are split: as many as leave all classes within the states, at least one.

    Classes are ordered pairs of seen values and groups, without a value and itself, or a group of one and itself.
    """
    for groups in range(max(values_F), 1, -1):
        joint = 1
        for seen, values in zip(seen_F, values_F, strict=True):
            unseen = values - seen
            split = min(groups, unseen)
            joint *= (seen + split) ** 2 - seen - max(0, 2 * split - unseen)
        if joint <= states:
            return groups
    return 1


def _classes(seen: np.ndarray, values: int, groups: int) -> np.ndarray:
    """Which pairs are in which class: bool (C, S)."""
    group_V = np.empty(values, int)
    group_V[seen] = np.arange(len(seen))
    unseen_V = np.ones(values, dtype=bool)
    unseen_V[seen] = False
    group_V[unseen_V] = len(seen) + np.arange(values - len(seen)) % groups
    first_S, second_S = group_V[pairs_of(values)].T
    keys, class_S = np.unique(first_S * values + second_S, return_inverse=True)
    return class_S == np.arange(len(keys))[:, None]


def _sizes(mass_FC: Sequence[np.ndarray], states: int) -> list[int]:
    """How many classes of each factor are kept, so that at most `states` joint states result.

    Greedy: one more class goes where it saves most plausibility for the factor by which the joint states grow.
    """
    descending = [np.sort(mass_C)[::-1].tolist() for mass_C in mass_FC]
    kept = [1] * len(descending)
    while True:
        joint, best, gain = math.prod(kept), -1, 0.0
        for factor, mass in enumerate(descending):
            now = kept[factor]
            if now < len(mass) and joint // now * (now + 1) <= states:
                saved = mass[now] / math.log1p(1 / now)
                if saved > gain:
                    best, gain = factor, saved
        if best < 0:
            return kept
        kept[best] += 1


def _drawn(pair_CS: np.ndarray, mass_C: np.ndarray, kept: int, uniform_R: np.ndarray) -> Support:
    """Keep the most plausible classes surely and draw the rest, systematically, from one uniform number a run."""
    order = np.argsort(-mass_C, kind="stable")
    sorted_C = mass_C[order]
    inclusion_C = np.ones(len(order))
    picked_RK = np.broadcast_to(np.arange(kept), (len(uniform_R), kept)).copy()
    if kept < len(order):
        left_C = sorted_C[::-1].cumsum()[::-1]  # of this class and all less plausible ones
        # from the first class on that does not fill a place of its own
        sure = int(np.argmax(sorted_C[:kept] * (kept - np.arange(kept)) < left_C[:kept]))
        inclusion_C[sure:] = sorted_C[sure:] * (kept - sure) / left_C[sure]
        level_RK = uniform_R[:, None] + np.arange(kept - sure)
        light_RK = np.searchsorted(inclusion_C[sure:].cumsum(), level_RK, side="right")
        picked_RK[:, sure:] = np.minimum(sure + light_RK, len(order) - 1)
    pairs_C = pair_CS.sum(axis=1)
    class_RK = order[picked_RK]
    share_CS = pair_CS / pairs_C[:, None]
    prior_C = pairs_C / pair_CS.shape[1]
    return Support(share_CS[class_RK], prior_C[class_RK] / inclusion_C[picked_RK])


def _likelihoods(items: Items, weights: DemoWeights) -> list[np.ndarray]:
    """For each factor P(value of the choice | pair), (S, V): a user's first choice, averaged over all else."""
    rng = np.random.default_rng(0)
    sizes_F = list(FACTORS.values())
    drawn = [pairs_of(values)[rng.integers(values * (values - 1), size=PILOT_STATES)] for values in sizes_F]
    first_QF, second_QF = (np.stack([pair_Q2[:, place] for pair_Q2 in drawn], axis=1) for place in (0, 1))
    nothing_QN = np.zeros((PILOT_STATES, len(items)), dtype=bool)
    moments = Moments(first_QF, second_QF, np.full(PILOT_STATES, -1), nothing_QN, nothing_QN[:, 0])
    choice_QN = np.exp(log_probabilities(items, weights, moments))
    found = []
    for column, values in enumerate(sizes_F):
        shares = [
            float((choice_QN * (items.factors_NF[:, column] == liked_QF[:, column, None])).sum(axis=1).mean())
            for liked_QF in (first_QF, second_QF)
        ]
        seen_as_SV = np.full((values * (values - 1), values), max(1 - sum(shares), 1e-6) / max(values - 2, 1))
        for place, share in enumerate(shares):
            seen_as_SV[np.arange(len(seen_as_SV)), pairs_of(values)[:, place]] = share
        found.append(seen_as_SV)
    return found


def _shares(mass: np.ndarray) -> np.ndarray:
    return mass / mass.sum(axis=-1, keepdims=True)
