"""The luck of seeds: mean squares as a naive sum has them, and tests that neither overlook luck nor invent it."""

import numpy as np
import pytest

from pipeline.retrieval.luck import Luck, luck
from pipeline.retrieval.significance import FEWEST_USERS, paired_bootstrap, sign_flip


def table(rng, rows=6, seeds=3, users=200, of_seed=0.0, of_row_and_seed=0.0, of_row=0.0):
    """(R, S, U): every user has a taste, every cell its noise."""
    taste_U = rng.normal(0.3, 0.2, users)
    shifts_RS = rng.normal(0, of_row_and_seed, (rows, seeds)) + rng.normal(0, of_seed, seeds)
    shifts_RS += of_row * np.arange(rows)[:, None]
    return taste_U + shifts_RS[..., None] + rng.normal(0, 0.2, (rows, seeds, users))


def naive(values_RSU):
    """Mean squares of the two interactions, cell by cell, over users: (between, within)."""
    rows, seeds, users = values_RSU.shape
    between = within = 0.0
    for r in range(rows):
        for s in range(seeds):
            cell = values_RSU[r, s].mean() - values_RSU[r].mean() - values_RSU[:, s].mean() + values_RSU.mean()
            between += cell**2
            for u in range(users):
                pairs = values_RSU[r, s, u] - values_RSU[r, :, u].mean() - values_RSU[:, s, u].mean()
                within += (pairs + values_RSU[:, :, u].mean() - cell) ** 2
    degrees = (rows - 1) * (seeds - 1)
    return between / degrees, within / degrees / (users - 1) / users


def test_mean_squares_are_those_of_a_naive_sum():
    values_RSU = table(np.random.default_rng(0), rows=4, seeds=3, users=30, of_seed=0.1, of_row_and_seed=0.05)
    found = luck(values_RSU, np.arange(30))
    assert (found.between, found.within) == pytest.approx(naive(values_RSU))
    assert (found.degrees, found.seeds) == (6, 3)
    shuffled = luck(values_RSU[::-1, ::-1], np.arange(30)[::-1])
    assert (shuffled.between, shuffled.within) == pytest.approx((found.between, found.within))


def test_a_seed_that_is_kind_to_all_rows_alike_is_no_luck():
    plain = table(np.random.default_rng(1))
    kind = plain + np.array([0.3, 0.0, -0.2])[:, None]
    found, other = luck(plain, np.arange(200)), luck(kind, np.arange(200))
    assert (other.between, other.within) == pytest.approx((found.between, found.within))


def test_its_deviation_is_what_a_seed_moves_a_row_by():
    rng = np.random.default_rng(2)
    squares = [luck(table(rng, of_seed=0.1, of_row_and_seed=0.05), np.arange(200)).deviation ** 2 for _ in range(100)]
    assert np.sqrt(np.mean(squares)) == pytest.approx(0.05, rel=0.1)
    constant = luck(np.broadcast_to(rng.random(200), (3, 2, 200)), np.arange(200))
    assert constant.deviation == 0 and not constant.draws(50).any()


def test_asking_a_user_again_tells_no_more_of_luck():
    values_RSU = table(np.random.default_rng(3), of_row_and_seed=0.05)
    once = luck(values_RSU, np.arange(200))
    again = luck(values_RSU.repeat(4, axis=2), np.arange(200).repeat(4))
    assert (again.between, again.within) == pytest.approx((once.between, once.within))


@pytest.mark.parametrize(("rows", "seeds", "users"), [(1, 3, 50), (4, 1, 50), (4, 3, 1)])
def test_one_row_seed_or_user_tells_nothing(rows, seeds, users):
    assert luck(table(np.random.default_rng(4), rows, seeds, users), np.arange(users)) is None


def test_draws_repeat_and_have_the_tails_of_few_degrees():
    found = Luck(between=4.0, within=0.0, degrees=4, seeds=2)
    drawn_R = found.draws(200_000)
    assert np.array_equal(drawn_R, found.draws(200_000)) and not np.array_equal(drawn_R[:9], found.draws(9, seed=1))
    assert np.mean(np.abs(drawn_R) > 2.776 * 2) == pytest.approx(0.05, abs=0.003), "Student's t at 4 degrees"
    sure = Luck(between=4.0, within=3.0, degrees=10**9, seeds=2)
    assert sure.draws(200_000).std() == pytest.approx(1.0, rel=0.01)


def rejected(rng, counted, **shifts):
    """The share of tables, 400 of them, in which p of the first row against the second is below .05."""
    below = 0
    for _ in range(400):
        values_RSU, users_U = table(rng, users=60, **shifts), np.arange(60)
        draws_R = luck(values_RSU, users_U).draws(500) if counted else None
        below += sign_flip(*values_RSU[:2].mean(axis=1), users_U, 500, luck_R=draws_R) < 0.05
    return below / 400


def test_luck_that_no_test_over_users_sees_is_counted():
    rng = np.random.default_rng(5)
    assert rejected(rng, counted=False, of_seed=0.05, of_row_and_seed=0.03) > 0.12
    assert 0.01 < rejected(rng, counted=True, of_seed=0.05, of_row_and_seed=0.03) < 0.07
    assert rejected(rng, counted=True) < 0.07, "nor where there is none"
    assert rejected(rng, counted=True, of_row=0.12) > 0.9, "a difference is seen"


def test_an_interval_is_wider_by_luck_and_few_users_stay_no_evidence():
    rng = np.random.default_rng(6)
    ours_Q, theirs_Q, users_Q = rng.random(300), rng.random(300), np.arange(300)
    draws_R = Luck(0.01, 0.0, 1000, 2).draws(4000)
    plain, lucky = (paired_bootstrap(ours_Q, theirs_Q, users_Q, 4000, luck_R=of) for of in (None, draws_R))
    assert lucky.mean == plain.mean and lucky.p > plain.p
    assert lucky.high - lucky.low == pytest.approx(2 * 1.96 * np.hypot(0.1, (plain.high - plain.low) / 3.92), rel=0.05)
    few = slice(0, FEWEST_USERS - 1)
    found = paired_bootstrap(ours_Q[few], theirs_Q[few], users_Q[few], 4000, luck_R=draws_R)
    assert (found.low, found.high) == (-1, 1)
    assert found.p == sign_flip(ours_Q[few], theirs_Q[few], users_Q[few], 4000, luck_R=draws_R)


def test_equal_rows_are_not_told_apart_by_luck():
    values_Q = np.random.default_rng(7).random(50)
    assert sign_flip(values_Q, values_Q, np.arange(50), 200, luck_R=Luck(1.0, 0.0, 2, 2).draws(200)) == 1.0
