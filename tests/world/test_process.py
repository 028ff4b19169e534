"""The process: choices follow the stated probabilities, cold items stay cold, histories keep their bounds."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.params.demo import DemoWeights
from pipeline.world.process import EPOCH, FACTORS, SECOND_AFFINITY, YEAR_SECONDS, Events, Items, Moments, draw_world
from pipeline.world.process import log_probabilities as log_probabilities_of
from tests.world.conftest import SMALL, Drawn


def random_moments(items: int, choices: int, rng: np.random.Generator) -> Moments:
    values = list(FACTORS.values())
    return Moments(
        first_QF=np.stack([rng.integers(v, size=choices) for v in values], axis=1).astype(np.int8),
        second_QF=np.stack([rng.integers(v, size=choices) for v in values], axis=1).astype(np.int8),
        last_Q=rng.integers(-1, items, size=choices),
        seen_QN=rng.random((choices, items)) < 0.2,
        cold_Q=rng.random(choices) < 0.3,
    )


def test_log_probabilities_equal_the_naive_sum_of_terms() -> None:
    """The vectorised logits are those of the documented formula, term by term."""
    items, weights = draw_world(SMALL).items, SMALL.weights
    moments = random_moments(len(items), 30, np.random.default_rng(1))
    got_QN = log_probabilities_of(items, weights, moments)
    for q in range(30):
        logits = np.full(len(items), -np.inf)
        last = items.factors_NF[moments.last_Q[q]] if moments.last_Q[q] >= 0 else None
        for i in range(len(items)):
            if items.cold_N[i] != moments.cold_Q[q]:
                continue
            logits[i] = weights.popularity * items.log_popularity_N[i] + weights.seen * moments.seen_QN[q, i]
            for f, name in enumerate(FACTORS):
                value = items.factors_NF[i, f]
                affinity = (value == moments.first_QF[q, f]) + SECOND_AFFINITY * (value == moments.second_QF[q, f])
                logits[i] += getattr(weights, name) * affinity
                if name in ("category", "community") and last is not None:
                    logits[i] += weights.repeat_last * (value == last[f])
        expected = logits - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(got_QN[q], expected, rtol=0, atol=1e-12)


def test_choices_are_drawn_with_these_probabilities() -> None:
    """Expected counts, summed over every drawn event's probabilities, meet the observed ones (chi-square per item)."""
    params = SMALL.model_copy(update={"users": 3000, "items": 40, "cold_items": 8, "mean_events": 8.0})
    world = draw_world(params)
    for cold in (False, True):
        expected_N, variance_N, observed_N = np.zeros((3, len(world.items)))
        for rows, log_QN in replay(world.items, params.weights, world.events, cold):
            probabilities_QN = np.exp(log_QN)
            expected_N += probabilities_QN.sum(axis=0)
            variance_N += (probabilities_QN * (1 - probabilities_QN)).sum(axis=0)
            observed_N += np.bincount(world.events.item_E[rows], minlength=len(world.items))
        possible = variance_N > 0
        assert not observed_N[~possible].any()
        z = (observed_N - expected_N)[possible] / np.sqrt(variance_N[possible])
        # about chi-square with one degree of freedom per item; 6 standard deviations above is no accident
        assert (z**2).sum() < possible.sum() + 6 * np.sqrt(2 * possible.sum())


def test_choices_depend_on_the_history_as_stated() -> None:
    """As many returns, and as many steps within a category or community, as the probabilities promise."""
    params = SMALL.model_copy(update={"users": 2000})
    world = draw_world(params)
    items, events = world.items, world.events
    expected, variance, observed = np.zeros((3, 3))  # returns, same category, same community
    for rows, log_QN in replay(items, params.weights, events, cold=False):
        if events.step_E[rows[0]] == 0:
            continue
        probabilities_QN, chosen = np.exp(log_QN), events.item_E[rows]
        last = items.factors_NF[events.item_E[rows - 1]]
        seen_QN = np.zeros(log_QN.shape, dtype=bool)
        for back in range(1, int(events.step_E[rows[0]]) + 1):
            seen_QN[np.arange(len(rows)), events.item_E[rows - back]] = True
        for kind, column in enumerate((None, list(FACTORS).index("category"), list(FACTORS).index("community"))):
            hit_QN = seen_QN if column is None else items.factors_NF[:, column] == last[:, column, None]
            share_Q = (probabilities_QN * hit_QN).sum(axis=1)
            expected[kind] += share_Q.sum()
            variance[kind] += (share_Q * (1 - share_Q)).sum()
            observed[kind] += hit_QN[np.arange(len(rows)), chosen].sum()
    assert (np.abs(observed - expected) < 4 * np.sqrt(variance)).all()


def replay(items: Items, weights: DemoWeights, events: Events, cold: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the events of one kind, step by step, with their log-probabilities recomputed from the history alone."""
    users = int(events.user_E.max()) + 1
    seen_UN, last_U = np.zeros((users, len(items)), bool), np.full(users, -1)
    for step in range(int(events.step_E.max()) + 1):
        rows = np.flatnonzero(events.step_E == step)
        kind = rows[events.cold_E[rows] == cold]
        user = events.user_E[kind]
        state = events.first_EF[kind], events.second_EF[kind], last_U[user], seen_UN[user], events.cold_E[kind]
        if len(kind):
            yield kind, log_probabilities_of(items, weights, Moments(*state))
        last_U[events.user_E[rows]] = events.item_E[rows]
        seen_UN[events.user_E[rows], events.item_E[rows]] = True


def test_every_user_has_ordinary_events_within_bounds_and_one_cold_choice_at_the_end(drawn: Drawn) -> None:
    events, params = drawn.world.events, drawn.params
    is_cold_item_E = drawn.world.items.cold_N[events.item_E]
    np.testing.assert_array_equal(is_cold_item_E, events.cold_E)
    assert drawn.world.items.cold_N.sum() == params.cold_items
    counts_U = np.bincount(events.user_E[~events.cold_E], minlength=params.users)
    assert params.min_events <= counts_U.min() and counts_U.max() <= params.max_events
    assert abs(counts_U.mean() - params.mean_events) < 1.5
    np.testing.assert_array_equal(np.bincount(events.user_E[events.cold_E]), np.ones(params.users))
    last_E = np.append(events.user_E[1:] != events.user_E[:-1], True)
    np.testing.assert_array_equal(last_E, events.cold_E)


def test_without_cold_items_no_extra_choice_is_drawn() -> None:
    events = draw_world(SMALL.model_copy(update={"cold_items": 0})).events
    assert not events.cold_E.any()
    assert np.bincount(events.user_E).max() <= SMALL.max_events


@pytest.mark.parametrize("mean", [5.0, 12.0, 40.0])
def test_event_counts_at_and_between_the_bounds(mean: float) -> None:
    """The mean may sit on a bound: then (nearly) every user has just that many events."""
    events = draw_world(SMALL.model_copy(update={"mean_events": mean, "users": 1000, "cold_items": 0})).events
    assert abs(np.bincount(events.user_E).mean() - mean) < 0.8


def test_a_user_s_time_increases_strictly_within_one_year(drawn: Drawn) -> None:
    events = drawn.world.events
    same_user = events.user_E[1:] == events.user_E[:-1]
    assert (np.diff(events.timestamp_E)[same_user] > 0).all()
    assert events.timestamp_E.min() >= EPOCH
    assert events.timestamp_E.max() <= EPOCH + YEAR_SECONDS
    assert np.ptp(events.timestamp_E) > 0.8 * YEAR_SECONDS


def test_drift_redraws_one_factor_at_a_time_at_the_stated_rate() -> None:
    params = SMALL.model_copy(update={"users": 1500, "drift": 0.2})
    events = draw_world(params).events
    same_user = events.user_E[1:] == events.user_E[:-1]
    changed = (events.first_EF[1:] != events.first_EF[:-1]) | (events.second_EF[1:] != events.second_EF[:-1])
    factors_changed = changed[same_user].sum(axis=1)
    assert factors_changed.max() == 1
    # a redraw may give the same two values again: with 4 to 10 values, about 3 in 100 do
    assert 0.18 < factors_changed.mean() < 0.205
    assert (events.first_EF != events.second_EF).all()


def test_repeats_happen(drawn: Drawn) -> None:
    """The world really returns to items, which is why protocol.mask_seen is false for it."""
    events = drawn.world.events
    pairs = np.unique(np.stack([events.user_E, events.item_E]), axis=1).shape[1]
    assert pairs < 0.9 * len(events.item_E)
