"""The demo world's generative process: who chooses what, and with which probability.

Promise: the same seed draws the same world, and `log_probabilities` is the one place where a choice's probability
is computed; the process samples from it and the oracle ranks by it.

Five factors drive choices, and each can be seen through one channel only: an item's category is told by its text,
colour and shape by its picture, brand by its attributes, and its community by nothing but who chose it. A user
likes two values of every factor; the taste drifts. A model that misses a channel cannot make up for it.

Shape suffixes: N items, F factors, U users, Q choices (any selection of users at moments).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.params.demo import Demo, DemoWeights

FACTORS = {"category": 8, "colour": 6, "shape": 4, "brand": 8, "community": 10}  # name -> number of values
SYNONYMS, FINISHES, MATERIALS = 2, 2, 4  # noise: no user cares
SECOND_AFFINITY = 0.5  # of a user's second value of a factor; the first one's is 1

YEAR_SECONDS = 365 * 24 * 3600
EPOCH = 1_672_531_200  # 2023-01-01 00:00 UTC
COUNT_CONCENTRATION = (
    3.5  # of the Beta that draws event counts: the smaller, the more short histories and the longer the tail
)


@dataclass(frozen=True)
class Items:
    """What the items are. Rows are in raw order (that of items.csv), which says nothing about the factors."""

    factors_NF: np.ndarray  # int8, columns in the order of FACTORS
    log_popularity_N: np.ndarray  # float64, centred
    cold_N: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.cold_N)


@dataclass(frozen=True)
class Moments:
    """All that a choice depends on besides the items: Q users, each at the moment before a choice."""

    first_QF: np.ndarray  # int8, the preferred value of each factor
    second_QF: np.ndarray  # int8, the second-best
    last_Q: np.ndarray  # int, the item chosen just before, -1 at the start
    seen_QN: np.ndarray  # bool, items chosen before
    cold_Q: np.ndarray  # bool, whether this is the extra choice among cold items


@dataclass(frozen=True)
class Events:
    """Every choice, sorted by user, then step. A user's last row is the extra, cold choice where there are any."""

    user_E: np.ndarray  # int32
    step_E: np.ndarray  # int32, 0 for a user's first choice
    item_E: np.ndarray  # int32
    timestamp_E: np.ndarray  # int64, seconds, strictly increasing within a user
    cold_E: np.ndarray  # bool
    first_EF: np.ndarray  # int8, the user's state at that moment
    second_EF: np.ndarray  # int8


@dataclass(frozen=True)
class World:
    items: Items
    events: Events
    synonym_N: np.ndarray  # which of its category's synonyms the title uses
    finish_N: np.ndarray
    material_N: np.ndarray


def log_probabilities(items: Items, weights: DemoWeights, moments: Moments) -> np.ndarray:
    """log P(next item) for Q choices: float64 (Q, N), log-softmax over the items of

        sum of w_f (1 if the item's f is the user's first value, 1/2 if the second) over the five factors f
        + w_popularity (centred log popularity) + w_seen [chosen before]
        + w_repeat_last ([category of the last choice] + [community of the last choice]).

    Cold items are -inf in ordinary choices, all others are -inf in cold ones.
    """
    logits_QN = np.broadcast_to(weights.popularity * items.log_popularity_N, moments.seen_QN.shape).copy()
    rows_Q = np.arange(len(logits_QN))
    started_Q = moments.last_Q >= 0
    pull = (weights.category, weights.colour, weights.shape, weights.brand, weights.community)
    for column, ((factor, values), weight) in enumerate(zip(FACTORS.items(), pull, strict=True)):
        taste_QV = np.zeros((len(rows_Q), values))  # what each value of this factor adds
        taste_QV[rows_Q, moments.first_QF[:, column]] += weight
        taste_QV[rows_Q, moments.second_QF[:, column]] += SECOND_AFFINITY * weight
        if factor in ("category", "community"):
            last_value_Q = items.factors_NF[moments.last_Q, column]
            taste_QV[rows_Q[started_Q], last_value_Q[started_Q]] += weights.repeat_last
        logits_QN += taste_QV[:, items.factors_NF[:, column]]
    logits_QN += weights.seen * moments.seen_QN
    logits_QN[items.cold_N != moments.cold_Q[:, None]] = -np.inf
    logits_QN -= logits_QN.max(axis=1, keepdims=True)
    logits_QN -= np.log(np.exp(logits_QN).sum(axis=1, keepdims=True))
    return logits_QN


def draw_world(params: Demo) -> World:
    """Draw items, users and their choices. Deterministic in `params`."""
    # one stream per matter, so that more events leave the items alone and the other way round
    items_rng, users_rng, times_rng = (np.random.default_rng([params.seed, matter]) for matter in range(3))
    balanced = [items_rng.permutation(np.arange(params.items) % values) for values in FACTORS.values()]
    rank_N = items_rng.permutation(params.items)
    log_popularity_N = -np.log(rank_N + 5.0)
    cold_N = np.zeros(params.items, dtype=bool)
    cold_N[items_rng.choice(params.items, size=params.cold_items, replace=False)] = True
    items = Items(np.stack(balanced, axis=1).astype(np.int8), log_popularity_N - log_popularity_N.mean(), cold_N)
    synonym_N, finish_N, material_N = (items_rng.integers(n, size=len(items)) for n in (SYNONYMS, FINISHES, MATERIALS))
    events = _draw_events(params, items, users_rng, times_rng)
    return World(items, events, synonym_N, finish_N, material_N)


def _draw_events(params: Demo, items: Items, users_rng: np.random.Generator, times_rng: np.random.Generator) -> Events:
    """Run all users side by side, one step at a time; the users whose events are used up choose a cold item."""
    counts_U = _event_counts(params, users_rng)
    first_UF = np.stack([users_rng.integers(v, size=params.users) for v in FACTORS.values()], axis=1).astype(np.int8)
    second_UF = np.stack([_other_value(first_UF[:, f], v, users_rng) for f, v in enumerate(FACTORS.values())], axis=1)
    last_U = np.full(params.users, -1)
    seen_UN = np.zeros((params.users, len(items)), dtype=bool)
    rows: list[tuple[np.ndarray, ...]] = []
    for step in range(int(counts_U.max()) + 1):
        if step:
            _drift(first_UF, second_UF, params.drift, users_rng)
        active_Q = np.flatnonzero(counts_U >= step if params.cold_items else counts_U > step)
        cold_Q = counts_U[active_Q] == step
        moments = Moments(first_UF[active_Q], second_UF[active_Q], last_U[active_Q], seen_UN[active_Q], cold_Q)
        chosen_Q = _sample(log_probabilities(items, params.weights, moments), users_rng)
        last_U[active_Q] = chosen_Q
        seen_UN[active_Q, chosen_Q] = True
        rows.append((active_Q, np.full(len(active_Q), step), chosen_Q, cold_Q, moments.first_QF, moments.second_QF))
    user, step_, item, cold, first, second = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.lexsort((step_, user))
    times_US = _timestamps(counts_U, times_rng)
    return Events(
        user_E=user[order].astype(np.int32),
        step_E=step_[order].astype(np.int32),
        item_E=item[order].astype(np.int32),
        timestamp_E=times_US[user[order], step_[order]],
        cold_E=cold[order],
        first_EF=first[order],
        second_EF=second[order],
    )


def _event_counts(params: Demo, rng: np.random.Generator) -> np.ndarray:
    """Ordinary events per user: int64 (U,), between the bounds, mean about mean_events, a few long ones."""
    width = params.max_events - params.min_events
    mean_share = (params.mean_events - params.min_events) / width if width else 0.0
    mean_share = min(max(mean_share, 1e-3), 1 - 1e-3)  # a Beta has no mean of exactly 0 or 1
    shape = COUNT_CONCENTRATION * mean_share, COUNT_CONCENTRATION * (1 - mean_share)
    return params.min_events + np.rint(width * rng.beta(*shape, size=params.users)).astype(np.int64)


def _other_value(value_Q: np.ndarray, values: int, rng: np.random.Generator) -> np.ndarray:
    """A value different from the given one, uniformly."""
    return ((value_Q + rng.integers(1, values, size=len(value_Q))) % values).astype(np.int8)


def _drift(first_UF: np.ndarray, second_UF: np.ndarray, probability: float, rng: np.random.Generator) -> None:
    """Redraw, in place and with this probability, both values of one random factor of each user."""
    drifts_U = rng.random(len(first_UF)) < probability
    factor_U = rng.integers(len(FACTORS), size=len(first_UF))
    for column, values in enumerate(FACTORS.values()):
        redrawn = np.flatnonzero(drifts_U & (factor_U == column))
        first_UF[redrawn, column] = rng.integers(values, size=len(redrawn))
        second_UF[redrawn, column] = _other_value(first_UF[redrawn, column], values, rng)


def _sample(log_probabilities_QN: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One item per row by inverting the cumulative distribution: int64 (Q,). One uniform number per choice."""
    cumulative_QN = np.exp(log_probabilities_QN).cumsum(axis=1)
    # scaled by the last column, which rounding leaves near, not at, 1; an impossible item's bin has no width
    level_Q = rng.random(len(cumulative_QN)) * cumulative_QN[:, -1]
    return (cumulative_QN <= level_Q[:, None]).sum(axis=1)


def _timestamps(counts_U: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Seconds of every step: int64 (U, steps). A user is active for a random stretch of the year."""
    steps = int(counts_U.max()) + 1
    start_U = rng.uniform(0, 0.5, size=len(counts_U)) * YEAR_SECONDS
    length_U = rng.uniform(0.1, 1.0, size=len(counts_U)) * (YEAR_SECONDS - steps - start_U)
    elapsed_US = rng.exponential(size=(len(counts_U), steps)).cumsum(axis=1)
    share_US = elapsed_US / elapsed_US[np.arange(len(counts_U)), counts_U, None]  # 1 at the user's last choice
    # plus the step's number: whole seconds that increase strictly, however short the gap
    return EPOCH + (start_U[:, None] + length_U[:, None] * share_US).astype(np.int64) + np.arange(steps)
