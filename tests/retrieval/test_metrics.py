"""Metrics by hand, the arithmetic bound, and buckets."""

import numpy as np
import pytest

from pipeline.retrieval.metrics import (
    POPULARITY_EDGES,
    assert_bound,
    bucket_names,
    by_bucket,
    ndcg_at,
    recall_at,
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
