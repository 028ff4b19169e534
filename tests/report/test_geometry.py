"""The numbers of a set of embeddings, on matrices whose answer is known, and against the plain way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import MolarError
from pipeline.report import geometry
from pipeline.report.geometry import agreement, effective_rank, exact_duplicates, mean_cosine, measure, neighbours

MATRICES = arrays(np.float32, st.tuples(st.integers(3, 12), st.integers(1, 4)), elements=st.integers(-3, 3))


def plain_cosines(rows_ND):
    """(N, N), NaN on the diagonal."""
    norms_N = np.linalg.norm(rows_ND.astype(float), axis=1)
    units_ND = rows_ND / np.where(norms_N > 0, norms_N, 1)[:, None]
    cosines_NN = units_ND @ units_ND.T
    np.fill_diagonal(cosines_NN, np.nan)
    return cosines_NN


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_equally_strong_directions_count_fully(dim):
    assert effective_rank(3 * np.eye(dim)) == pytest.approx(dim)
    assert effective_rank(np.vstack([np.eye(dim)] * 4).astype(np.float32)) == pytest.approx(dim)


def test_one_direction_counts_as_one_and_nothing_as_nothing():
    assert effective_rank(np.outer(np.arange(1, 30), np.arange(5))) == pytest.approx(1, abs=1e-12)
    assert effective_rank(np.zeros((4, 3))) == 0


def test_effective_rank_is_the_entropy_of_singular_values():
    rows_ND = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 2, 1, 0.5, 0.1]
    values_D = np.linalg.svd(rows_ND, compute_uv=False)
    p_D = values_D / values_D.sum()
    assert effective_rank(rows_ND) == pytest.approx(np.exp(-(p_D * np.log(p_D)).sum()))


def test_blocks_of_rows_add_up(monkeypatch):
    rows_ND = np.random.default_rng(0).normal(size=(10, 3))
    whole = effective_rank(rows_ND)
    monkeypatch.setattr(geometry, "ROWS", 3)
    assert effective_rank(rows_ND) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("rows", "mean"),
    [
        ([[1, 0], [2, 0], [3, 0]], 1),
        ([[1, 0], [-5, 0]], -1),
        ([[1, 0], [0, 1], [1, 1]], 2 * 0.5**0.5 / 3),
        ([[0, 0], [1, 0]], 0),
    ],
)
def test_mean_cosine_of_hand_made_rows(rows, mean):
    assert mean_cosine(np.array(rows, np.float32)) == pytest.approx(mean, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_means_and_neighbours_are_those_of_all_pairs(rows_ND):
    cosines_NN = plain_cosines(rows_ND)
    assert mean_cosine(rows_ND) == pytest.approx(np.nanmean(cosines_NN), abs=1e-5)
    queries_Q = np.arange(0, len(rows_ND), 2)
    found_QK, cosines_QK = neighbours(rows_ND, queries_Q, 3)
    expected_QK = np.sort(np.nan_to_num(cosines_NN[queries_Q], nan=-9), axis=1)[:, ::-1][:, : found_QK.shape[1]]
    np.testing.assert_allclose(cosines_QK[:, :2], expected_QK[:, :2], atol=1e-6)
    np.testing.assert_allclose(cosines_NN[queries_Q[:, None], found_QK], cosines_QK, atol=1e-6)  # never itself: NaN
    assert all(len(set(found)) == len(found) for found in found_QK.tolist())


def test_neighbours_of_many_queries_are_those_of_each_alone():
    rows_ND = np.random.default_rng(0).normal(size=(1100, 8)).astype(np.float32)  # more than a block of queries
    found_QK, cosines_QK = neighbours(rows_ND, np.arange(1100), 5)
    cosines_NN = np.nan_to_num(plain_cosines(rows_ND), nan=-9)
    assert np.array_equal(found_QK, np.argsort(-cosines_NN, axis=1, kind="stable")[:, :5])
    for query in (0, 511, 512, 1099):
        alone, cosines = neighbours(rows_ND, np.array([query]), 5)
        assert np.array_equal(alone[0], found_QK[query]) and np.array_equal(cosines[0], cosines_QK[query])


def test_duplicates_near_and_exact():
    rows_ND = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 1, 0.01], [0, 1, 0.01], [0, 0, 1]], np.float32)
    assert exact_duplicates(rows_ND) == pytest.approx(2 / 6)
    measured = measure(rows_ND, np.arange(6), *neighbours(rows_ND, np.arange(6), 2), [None] * 6)
    assert measured.near_duplicates == pytest.approx(5 / 6)  # twice as long is the same direction
    assert measured.exact_duplicates == pytest.approx(2 / 6)
    assert measured.nearest_cosine == pytest.approx(1, abs=1e-4)
    assert measured.norm[1] == pytest.approx(1, abs=1e-4) and measured.norm[0] <= measured.norm[1] <= measured.norm[2]
    assert measured.same is None and measured.same_by_chance is None


def test_agreement_counts_neighbours_that_have_a_value():
    values = ["oak", "oak", "oak", "steel", None]
    found_QK = np.array([[1, 3], [0, 4], [0, 1]])
    same, chance = agreement(np.array([0, 3, 4]), found_QK, values)
    assert same == pytest.approx(1 / 3)  # oak: oak, steel; steel: oak, nothing; nothing is not asked
    assert chance == pytest.approx((2 / 3 + 0) / 2)


def test_a_sample_is_all_of_few_and_a_fixed_part_of_many():
    assert geometry.sample(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    assert len(geometry.sample(16_384, seed=0)) == 16_384
    drawn = geometry.sample(300_000, seed=1)
    assert len(set(drawn.tolist())) == 894 and np.array_equal(drawn, geometry.sample(300_000, seed=1))
    assert (np.diff(drawn) > 0).all() and not np.array_equal(drawn, geometry.sample(300_000, seed=2))
    assert len(geometry.sample(2_000_000, seed=0)) == geometry.LEAST


def test_what_is_no_number_is_named():
    with pytest.raises(MolarError, match=r"the embedding of item 1 .* is not finite"):
        neighbours(np.array([[1, 0], [np.nan, 0]], np.float32), np.array([0]), 1)
