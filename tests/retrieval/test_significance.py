"""Paired tests: right rates where there is no difference, sure where there is one, corrected where there are many."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.retrieval import significance
from pipeline.retrieval.significance import holm, paired_bootstrap, sign_flip, standard_error


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
    ours_Q = np.tile([1.0, 1.0, 1.0, 0.0], 10)
    users_Q = np.repeat(np.arange(20), [3, 1] * 10)
    found = paired_bootstrap(ours_Q, np.zeros(40), users_Q, 500)
    assert found.mean == 0.75 and 0.4 < found.low < 0.75 < found.high < 1


def test_a_handful_of_users_is_no_evidence():
    """Resampled, one user has the same mean each time: an interval of no width, and the least p there is."""
    ours_Q, theirs_Q = np.random.default_rng(6).random((2, 200))
    found = paired_bootstrap(ours_Q, theirs_Q, np.zeros(200, int), 2000)
    assert vars(found) == {"mean": pytest.approx((ours_Q - theirs_Q).mean()), "low": -1.0, "high": 1.0, "p": 1.0}
    users_Q = np.arange(200) % 5
    assert paired_bootstrap(ours_Q, theirs_Q, users_Q, 2000).p == sign_flip(ours_Q, theirs_Q, users_Q, 2000)


def test_sign_flips_by_hand():
    zeros = np.zeros(3)
    assert sign_flip(np.array([1.0, 1.0, 1.0]), zeros, np.arange(3), 100) == 2 / 8  # all signs alike, either way
    assert sign_flip(np.array([1.0, 1.0, -1.0]), zeros, np.arange(3), 100) == 1.0
    assert sign_flip(np.array([3.0, 1.0, 0.0]), zeros, np.arange(3), 100) == 2 / 4  # who does not differ has no say
    assert sign_flip(np.array([1.0, 1.0, 1.0]), zeros, np.array([5, 5, 5]), 100) == 1.0  # one user has one sign
    assert sign_flip(zeros, zeros, np.arange(3), 100) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_sign_flips_of_few_users_equal_enumeration_and_scipy(seed):
    difference_U = np.random.default_rng(seed).normal(0.4, 1, 9).round(1)
    totals = np.array([np.dot(signs, difference_U) for signs in itertools.product([1, -1], repeat=9)])
    expected = np.mean(np.abs(totals) >= abs(difference_U.sum()) - 1e-9)
    found = sign_flip(difference_U, np.zeros(9), np.arange(9), 100)
    assert found == pytest.approx(expected)
    theirs = stats.permutation_test(
        (difference_U,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert found == pytest.approx(theirs.pvalue)


def test_drawn_signs_come_near_the_exact_p_and_repeat_whatever_the_batch(monkeypatch):
    difference_U = np.random.default_rng(6).normal(0.3, 1, 14).round(1)
    exact = sign_flip(difference_U, np.zeros(14), np.arange(14), 1)
    monkeypatch.setattr(significance, "ENUMERATED", 5)
    drawn = sign_flip(difference_U, np.zeros(14), np.arange(14), 20_000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000)) and drawn != exact
    assert drawn == sign_flip(difference_U, np.zeros(14), np.arange(14), 20_000)
    assert drawn != sign_flip(difference_U, np.zeros(14), np.arange(14), 20_000, seed=1)
    monkeypatch.setattr(significance, "MAX_COUNTS", 500)
    assert drawn == sign_flip(difference_U, np.zeros(14), np.arange(14), 20_000)
    sure = sign_flip(np.ones(200), np.zeros(200), np.arange(200), 999)
    assert sure == pytest.approx(1 / 1000)


def test_sign_flips_reject_one_true_null_in_twenty():
    """Heavy tails and few distinct values, as rank metrics have: the level does not lean on the bell curve."""
    rng = np.random.default_rng(7)
    rejected = 0
    for trial in range(600):
        ours_Q, theirs_Q = (np.where(rng.random(80) < 0.4, 1 / np.log2(rng.integers(2, 12, 80)), 0) for _ in "ab")
        rejected += sign_flip(ours_Q, theirs_Q, np.arange(80), 199, seed=trial) <= 0.05
    assert 15 <= rejected <= 45  # 30 expected, standard deviation 5.3


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0} and holm({"only": 0.04}) == {"only": 0.04}
    assert list(holm({"z": 0.5, "a": 0.1})) == ["z", "a"] and holm({}) == {}
