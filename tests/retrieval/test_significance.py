"""The paired interval: right coverage where there is no difference, sure where there is one."""

import numpy as np
import pytest

from pipeline.retrieval.significance import paired_bootstrap, standard_error


def test_interval_covers_zero_about_95_times_in_100_when_nothing_differs():
    rng = np.random.default_rng(0)
    covered, small_p = 0, 0
    for trial in range(200):
        base_Q = rng.random(300)
        ours_Q, theirs_Q = base_Q + rng.normal(0, 0.3, 300).round(1), base_Q + rng.normal(0, 0.3, 300).round(1)
        found = paired_bootstrap(ours_Q, theirs_Q, np.arange(300), 400, seed=trial)
        covered += found.low <= 0 <= found.high
        small_p += found.p < 0.05
    assert 180 <= covered <= 199
    assert 1 <= small_p <= 20


def test_a_real_difference_is_seen_and_the_mean_is_exact():
    rng = np.random.default_rng(1)
    theirs_Q = rng.random(500)
    ours_Q = theirs_Q + 0.1 + rng.normal(0, 0.2, 500)
    found = paired_bootstrap(ours_Q, theirs_Q, np.arange(500), 1000)
    assert found.low < found.mean < found.high and found.low > 0 and found.p == pytest.approx(1 / 1001)
    assert found.mean == pytest.approx((ours_Q - theirs_Q).mean())
    assert found == paired_bootstrap(ours_Q, theirs_Q, np.arange(500), 1000)


def test_interval_is_about_two_standard_errors_wide():
    difference_Q = (np.random.default_rng(2).random(2000) < 0.3).astype(float)
    found = paired_bootstrap(difference_Q, np.zeros(2000), np.arange(2000), 4000)
    assert (found.high - found.low) / standard_error(difference_Q, np.arange(2000)) == pytest.approx(2 * 1.96, rel=0.06)


def test_equal_systems_differ_by_nothing():
    values_Q = np.random.default_rng(3).random(50)
    assert vars(paired_bootstrap(values_Q, values_Q, np.arange(50), 200)) == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p": 1.0,
    }


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match="do not pair up: 2 and 3"):
        paired_bootstrap(np.zeros(2), np.zeros(3), np.arange(2), 100)


def test_of_independent_queries_the_error_is_the_familiar_one():
    values_Q = np.random.default_rng(4).random(70)
    assert standard_error(values_Q, np.arange(70)[::-1]) == pytest.approx(values_Q.std(ddof=1) / np.sqrt(70))
    assert standard_error(values_Q[:1], np.arange(1)) == standard_error(values_Q, np.zeros(70, int)) == 0.0


def test_asking_a_user_the_same_thing_again_adds_no_certainty():
    difference_U, users_U = np.random.default_rng(5).normal(0, 1, 400), np.arange(400)
    again_Q, users_Q = np.repeat(difference_U, 4), np.repeat(users_U, 4)
    once, again = (
        paired_bootstrap(values, np.zeros(len(values)), users, 2000)
        for values, users in ((difference_U, users_U), (again_Q, users_Q))
    )
    assert vars(again) == pytest.approx(vars(once))
    assert standard_error(again_Q, users_Q) == pytest.approx(standard_error(difference_U, users_U))


def test_a_user_of_many_queries_weighs_as_many():
    found = paired_bootstrap(np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4), np.array([7, 7, 7, 2]), 500)
    assert (found.mean, found.low, found.high) == (0.75, 0.0, 1.0)
