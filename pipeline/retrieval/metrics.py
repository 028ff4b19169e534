"""NDCG and Recall of one relevant item, from its rank (counted from 0), and the buckets that stand beside averages.

With one relevant item Recall@k is the share of queries with rank < k, and NDCG@k their mean of 1 / log2(rank + 2).
That ties the two together between any two cutoffs; `assert_bound` holds every report to it (many published tables
fail: reference/paper.md 0.2). Beside accuracy stand whose turn it was (`catalogue_share`, `gini`), and accuracy where
popular targets do not count more for being popular (`debiased`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

POPULARITY_EDGES = (0, 1, 5, 20)  # training interactions of the target: 0, 1-4, 5-19, 20 and more
PROPENSITY_EXPONENT = 1.0  # of the target's training interactions: an item is as likely observed as it was chosen
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


def exposure(items_QK: NDArray[np.integer], num_items: int) -> NDArray[np.int64]:
    """How often (N,) int64 each item stands in the lists of some queries; -1 is none."""
    return np.bincount(items_QK[items_QK >= 0], minlength=num_items).astype(np.int64)


def catalogue_share(exposure_N: NDArray[np.integer], num_candidates: int) -> float:
    """Catalogue coverage (Ge, Delgado-Battenfeld and Jannach, RecSys 2010): candidates in any list / candidates."""
    return float(np.count_nonzero(exposure_N) / num_candidates)


def gini(exposure_N: NDArray[np.integer], num_candidates: int) -> float:
    """Gini coefficient of the exposure of all candidates: 0 where all have the same, towards 1 where one has it all.

    Items that are no candidates have no exposure and are not counted; candidates without any are. 0 without exposure.
    """
    shown_M = np.sort(exposure_N)[len(exposure_N) - num_candidates :].astype(np.float64)
    if not shown_M.sum():
        return 0.0
    places_M = np.arange(1, num_candidates + 1)
    return float(((2 * places_M - num_candidates - 1) * shown_M).sum() / (num_candidates * shown_M.sum()))


def debiased(
    ranks_Q: NDArray[np.integer], target_counts_Q: NDArray[np.integer], cutoff: int, exponent: float
) -> dict[str, float]:
    """NDCG and Recall with every query weighted by 1 / (training interactions of its target) ^ exponent.

    The self-normalised inverse-propensity estimator of Yang et al. (Unbiased offline recommender evaluation for
    missing-not-at-random implicit feedback, RecSys 2018): more is seen of what users do with popular items, so the
    plain mean rewards whoever recommends those. Popularity stands in for the unknown propensity; the exponent is an
    assumption (0: the plain mean; 1: chances to be seen go with interactions) and belongs beside the figures. A
    target without training interactions weighs as one with a single one. "queries" is the effective number of them,
    (sum w)^2 / sum w^2: a few rare targets may carry the whole figure.
    """
    weights_Q = np.maximum(np.asarray(target_counts_Q, np.float64), 1.0) ** -exponent
    total = weights_Q.sum()
    return {
        f"ndcg@{cutoff}": float(weights_Q @ ndcg_at(ranks_Q, cutoff) / total),
        f"recall@{cutoff}": float(weights_Q @ recall_at(ranks_Q, cutoff) / total),
        "queries": float(total**2 / (weights_Q @ weights_Q)),
    }


def short(figure: float | None) -> str:
    """How every table writes a figure: four decimals without the zero before the point; a dash for none and for NaN."""
    if figure is None or np.isnan(figure):
        return "-"
    return f"{figure:.4f}".replace("0.", ".", 1) if abs(figure) < 1 else f"{figure:.4f}"
