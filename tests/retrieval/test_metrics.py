"""Metrics by hand, the arithmetic bound, and buckets."""

import numpy as np
import pytest

from pipeline.retrieval.metrics import (
    POPULARITY_EDGES,
    assert_bound,
    bucket_names,
    by_bucket,
    catalogue_share,
    debiased,
    exposure,
    gini,
    ndcg_at,
    recall_at,
    short,
    summarise,
)


def test_metrics_by_hand():
    ranks_Q = np.array([0, 1, 9, 10, 2**40])
    np.testing.assert_allclose(ndcg_at(ranks_Q, 10), [1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])
    assert recall_at(ranks_Q, 10).tolist() == [1, 1, 1, 0, 0]
    assert summarise(ranks_Q, [10])["recall@10"] == 0.6
    with pytest.raises(ValueError, match="no query"):
        summarise(ranks_Q[:0], [10])


def test_every_set_of_ranks_keeps_the_bound_even_after_rounding():
    rng = np.random.default_rng(0)
    for _ in range(200):
        metrics = summarise(rng.integers(0, 40, 30), [10, 20])
        assert_bound("any", {name: round(value, 6) for name, value in metrics.items()})


def test_the_bound_names_the_system_that_breaks_it():
    molar_on_amazon = {"ndcg@10": 0.1407, "ndcg@20": 0.1478, "recall@10": 0.1580, "recall@20": 0.1773}  # the paper's
    with pytest.raises(AssertionError, match=r"^Molar: NDCG@20 - NDCG@10 = 0.007100 is outside \[0.004394, 0.005384\]"):
        assert_bound("Molar", molar_on_amazon)


def test_buckets():
    assert bucket_names(POPULARITY_EDGES) == ["0", "1-4", "5-19", "20+"]
    ranks_Q, counts_Q = np.array([0, 50, 0, 50, 3]), np.array([0, 1, 4, 20, 999])
    table = by_bucket(ranks_Q, counts_Q, POPULARITY_EDGES, [10])
    assert {name: row["queries"] for name, row in table.items()} == {"0": 1, "1-4": 2, "20+": 2}
    assert table["1-4"]["recall@10"] == 0.5


def test_exposure_coverage_and_gini_by_hand():
    exposure_N = exposure(np.array([[0, 1], [0, -1], [0, 2]]), 6)
    assert exposure_N.tolist() == [3, 1, 1, 0, 0, 0]
    assert catalogue_share(exposure_N, 5) == 3 / 5  # of five candidates; the sixth item is none
    # pairs of candidates differ by 2 2 3 3 0 1 1 1 1 0: twice their sum over 2 x 5 x 5
    assert gini(exposure_N, 5) == pytest.approx(28 / (2 * 5 * 5))
    assert gini(np.full(4, 7), 4) == 0.0 and gini(np.zeros(3, int), 3) == 0.0
    assert gini(np.array([0, 0, 0, 9]), 4) == 0.75


def test_debiased_metrics_by_hand():
    ranks_Q, counts_Q = np.array([0, 50, 1]), np.array([4, 2, 0])  # weights 1/4, 1/2 and 1, as if chosen once
    found = debiased(ranks_Q, counts_Q, 10, 1.0)
    assert found["recall@10"] == pytest.approx(1.25 / 1.75)
    assert found["ndcg@10"] == pytest.approx((0.25 + 1 / np.log2(3)) / 1.75)
    assert found["queries"] == pytest.approx(1.75**2 / (1 + 1 / 4 + 1 / 16))
    plain = debiased(ranks_Q, counts_Q, 10, 0.0)
    assert plain["recall@10"] == pytest.approx(2 / 3) and plain["queries"] == pytest.approx(3)


def test_debiasing_takes_from_popularity_what_it_is_not_for():
    counts_Q = np.repeat([100, 1], 50)
    popular_Q = np.where(counts_Q == 100, 0, 99)  # a system that only finds popular targets
    assert debiased(popular_Q, counts_Q, 10, 1.0)["recall@10"] == pytest.approx(0.01 / 1.01)


@pytest.mark.parametrize(
    ("figure", "text"),
    [(0.21834, ".2183"), (-0.0012, "-.0012"), (1.0, "1.0000"), (0.0, ".0000"), (10.5, "10.5000"), (None, "-"),
     (float("nan"), "-")],
)  # fmt: skip
def test_a_figure_is_written_as_papers_print_them(figure, text):
    assert short(figure) == text
