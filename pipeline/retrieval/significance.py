"""How sure a mean over queries is, whether two systems differ on the same queries, and what many such tests are worth.

Two tests of one pair: the bootstrap asks how far the mean would move with other users and gives an interval, the
sign-flip test how often chance alone, which calls the systems by each other's names, makes a difference as large.
Queries of one user are no independent evidence (a split by time asks several): users are what is drawn again. Where
rows are means over training seeds, either takes what their luck would add as well, a draw for each resample (luck.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_COUNTS = 1 << 22  # resampled counts held at once (int64, 32 MiB)
FEWEST_USERS = 20  # drawn again, fewer look far too alike: of two, half the intervals about no difference miss it
ENUMERATED = 16  # users that differ, of whom every assignment of signs is looked at


@dataclass(frozen=True)
class Interval:
    """A mean difference, its bootstrap interval and the two-sided p of "there is none"."""

    mean: float
    low: float
    high: float
    p: float


def standard_error(values_Q: NDArray[np.floating], users_Q: NDArray[np.integer]) -> float:
    """Standard error of the mean over queries, whose users are independent; 0 for fewer than two users."""
    sums_U, _ = _by_user(np.asarray(values_Q, np.float64) - np.mean(values_Q), users_Q)
    users = len(sums_U)
    return float(np.sqrt(users / (users - 1) * (sums_U @ sums_U)) / len(values_Q)) if users > 1 else 0.0


def _by_user(
    values_Q: NDArray[np.float64], users_Q: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of the values and number of queries of each user, both (U,)."""
    _, of_Q = np.unique(users_Q, return_inverse=True)
    return np.bincount(of_Q, values_Q).astype(np.float64), np.bincount(of_Q).astype(np.int64)


def _paired(
    ours_Q: NDArray[np.floating], theirs_Q: NDArray[np.floating], users_Q: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if len(ours_Q) != len(theirs_Q) or not len(ours_Q):
        raise ValueError(f"values do not pair up: {len(ours_Q)} and {len(theirs_Q)}")
    return _by_user(np.asarray(ours_Q, np.float64) - theirs_Q, users_Q)


def paired_bootstrap(
    ours_Q: NDArray[np.floating],
    theirs_Q: NDArray[np.floating],
    users_Q: NDArray[np.integer],
    resamples: int,
    seed: int = 0,
    confidence: float = 0.95,
    luck_R: NDArray[np.float64] | None = None,
) -> Interval:
    """Percentile interval of mean(ours - theirs) when users are drawn again, with replacement and all their queries;
    `luck_R` (resamples,) is added to the means.

    p is the share of resamples at least as far from the observed mean as that mean is from zero (itself counted
    in). Resampling U users is a multinomial draw over the distinct pairs of a user's summed difference and its
    number of queries, of which rank metrics have few: the cost hardly depends on U. Of fewer than FEWEST_USERS
    nothing is claimed: the interval is all that a difference of metrics can be, -1 to 1, and p that of `sign_flip`.
    Raises ValueError when the two do not pair up.
    """
    sums_U, queries_U = _paired(ours_Q, theirs_Q, users_Q)
    users = len(sums_U)
    if users < FEWEST_USERS:
        p = sign_flip(ours_Q, theirs_Q, users_Q, resamples, seed, luck_R)
        return Interval(float(sums_U.sum() / len(ours_Q)), -1.0, 1.0, p)
    pairs_V2, counts_V = np.unique(np.stack([sums_U, queries_U], axis=1), axis=0, return_counts=True)
    values_V, queries_V = np.ascontiguousarray(pairs_V2.T)
    mean = float(values_V @ counts_V / len(ours_Q))
    rng = np.random.default_rng(seed)
    means_R = np.empty(resamples)
    rows = max(1, MAX_COUNTS // len(values_V))
    for start in range(0, resamples, rows):
        drawn_RV = rng.multinomial(users, counts_V / users, size=min(rows, resamples - start))
        means_R[start : start + rows] = drawn_RV @ values_V / (drawn_RV @ queries_V)
    if luck_R is not None:
        means_R += luck_R
    low, high = np.quantile(means_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    # a hair of slack, so that resamples equal to the observed distance count whatever their summation order
    extreme = np.count_nonzero(np.abs(means_R - mean) >= abs(mean) * (1 - 1e-9))
    return Interval(mean, float(low), float(high), (extreme + 1) / (resamples + 1))


def sign_flip(
    ours_Q: NDArray[np.floating],
    theirs_Q: NDArray[np.floating],
    users_Q: NDArray[np.integer],
    resamples: int,
    seed: int = 0,
    luck_R: NDArray[np.float64] | None = None,
) -> float:
    """Two-sided p of "either system may have made either result": Fisher's paired randomisation test.

    (Smucker, Allan and Carterette, CIKM 2007, find it the reference among tests of rankings.) Under that hypothesis the
    sign of each user's summed difference is a fair coin; p is the share of assignments of signs whose total is at
    least as far from zero as the observed one. Users without a difference have no say. Up to ENUMERATED others every
    assignment is counted and p is exact; beyond it `resamples` are drawn and the observed one is counted in (Phipson
    and Smyth 2010), so that p is never 0. Users of equal distance share one binomial draw: rank metrics have few
    distances, so that the cost hardly depends on the number of users. With `luck_R` (resamples,), differences of the
    mean that seeds alone would make, it is drawn always, and each total has one of them added.
    Raises ValueError when the two do not pair up.
    """
    sums_U, _ = _paired(ours_Q, theirs_Q, users_Q)
    sums_U = sums_U[sums_U != 0]
    # a hair of slack, as above: the order of summation is no evidence
    line = abs(sums_U.sum()) - 1e-9 * np.abs(sums_U).sum()
    if len(sums_U) <= ENUMERATED and luck_R is None:
        totals = np.zeros(1)
        for value in sums_U:
            totals = np.concatenate([totals + value, totals - value])
        return float(np.mean(np.abs(totals) >= line))
    values_V, counts_V = np.unique(np.abs(sums_U), return_counts=True)
    rng = np.random.default_rng(seed)
    extreme, rows = 0, max(1, MAX_COUNTS // max(1, len(values_V)))
    for start in range(0, resamples, rows):
        plus_RV = rng.binomial(counts_V, 0.5, size=(min(rows, resamples - start), len(values_V)))
        totals_R = (2 * plus_RV - counts_V) @ values_V
        if luck_R is not None:
            totals_R += len(ours_Q) * luck_R[start : start + rows]
        extreme += int(np.count_nonzero(np.abs(totals_R) >= line))
    return float((extreme + 1) / (resamples + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values adjusted for being several (Holm 1979): reject what is below .05 and one true hypothesis or more is
    rejected in at most one family of twenty, however the tests depend on each other.

    The i-th smallest of m is multiplied by m - i + 1, no value falls below a smaller one's, none exceeds 1.
    """
    adjusted: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}
