"""NDCG and Recall of one relevant item, from its rank (counted from 0), and the buckets that stand beside averages.

With one relevant item Recall@k is the share of queries with rank < k, and NDCG@k their mean of 1 / log2(rank + 2).
That ties the two together between any two cutoffs; `assert_bound` holds every report to it (many published tables
fail: reference/paper.md 0.2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

POPULARITY_EDGES = (0, 1, 5, 20)  # training interactions of the target: 0, 1-4, 5-19, 20 and more
HISTORY_EDGES = (1, 10, 20, 50)  # items before the target: 1-9, 10-19, 20-49, 50 and more


def ndcg_at(ranks_Q: NDArray[np.integer], cutoff: int) -> NDArray[np.float64]:
    """NDCG@cutoff (Q,) float64 of each query."""
    return np.where(ranks_Q < cutoff, 1.0 / np.log2(np.asarray(ranks_Q, np.float64) + 2.0), 0.0)


def recall_at(ranks_Q: NDArray[np.integer], cutoff: int) -> NDArray[np.float64]:
    """Recall@cutoff (Q,) float64 of each query: 1 where the target is among the first `cutoff`, else 0."""
    return (np.asarray(ranks_Q) < cutoff).astype(np.float64)


def summarise(ranks_Q: NDArray[np.integer], cutoffs: Sequence[int]) -> dict[str, float]:
    """Means over queries: {"ndcg@10": ..., "recall@10": ..., ...}. Raises ValueError when there is no query."""
    if not len(ranks_Q):
        raise ValueError("no query: a mean over nothing is no metric")
    means: dict[str, float] = {}
    for cutoff in cutoffs:
        means[f"ndcg@{cutoff}"] = float(ndcg_at(ranks_Q, cutoff).mean())
        means[f"recall@{cutoff}"] = float(recall_at(ranks_Q, cutoff).mean())
    return means


def assert_bound(system: str, metrics: Mapping[str, float], tolerance: float = 1e-6) -> None:
    """Hold a summary to (R@20 - R@10) / log2(21) <= N@20 - N@10 <= (R@20 - R@10) / log2(12).

    A target ranked 11th to 20th adds between 1 / log2(21) and 1 / log2(12) to NDCG and 1 to Recall. `tolerance` allows
    for figures rounded to six places; pass more for coarser ones. Raises AssertionError naming the system.
    """
    ndcg = metrics["ndcg@20"] - metrics["ndcg@10"]
    recall = metrics["recall@20"] - metrics["recall@10"]
    low, high = recall / math.log2(21), recall / math.log2(12)
    if not low - 2 * tolerance <= ndcg <= high + 2 * tolerance:
        raise AssertionError(
            f"{system}: NDCG@20 - NDCG@10 = {ndcg:.6f} is outside [{low:.6f}, {high:.6f}], "
            f"which Recall@20 - Recall@10 = {recall:.6f} allows: the two metrics are not of the same ranks"
        )


def bucket_names(edges: Sequence[int]) -> list[str]:
    """Names of the buckets that start at each edge: (0, 1, 5, 20) -> 0, 1-4, 5-19, 20+."""
    names = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in itertools.pairwise(edges)]
    return [*names, f"{edges[-1]}+"]


def by_bucket(
    ranks_Q: NDArray[np.integer], values_Q: NDArray[np.integer], edges: Sequence[int], cutoffs: Sequence[int]
) -> dict[str, dict[str, float]]:
    """`summarise` of the queries of each bucket of `values_Q`, with their number as "queries"; empty ones left out.

    Bucket i holds edges[i] <= value < edges[i + 1]; a value below the first edge belongs to the first bucket.
    """
    bucket_Q = np.maximum(np.searchsorted(edges, values_Q, side="right") - 1, 0)
    table: dict[str, dict[str, float]] = {}
    for index, name in enumerate(bucket_names(edges)):
        inside_Q = bucket_Q == index
        if inside_Q.any():
            table[name] = {"queries": int(inside_Q.sum()), **summarise(ranks_Q[inside_Q], cutoffs)}
    return table
