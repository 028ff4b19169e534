"""How sure a mean over users is, and whether two systems differ on the same users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_COUNTS = 1 << 22  # resampled counts held at once (int64, 32 MiB)


@dataclass(frozen=True)
class Interval:
    """A mean difference, its bootstrap interval and the two-sided p of "there is none"."""

    mean: float
    low: float
    high: float
    p: float


def standard_error(values_Q: NDArray[np.floating]) -> float:
    """Standard error of the mean of independent values; 0 for fewer than two."""
    return float(np.std(values_Q, ddof=1) / np.sqrt(len(values_Q))) if len(values_Q) > 1 else 0.0


def paired_bootstrap(
    ours_Q: NDArray[np.floating],
    theirs_Q: NDArray[np.floating],
    resamples: int,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of mean(ours - theirs) when users are drawn again with replacement, each with both values.

    p is the share of resamples at least as far from the observed mean as that mean is from zero (itself counted in).
    Resampling Q users is a multinomial draw over the distinct differences, of which rank metrics have few: the cost
    hardly depends on Q. Raises ValueError when the two do not pair up.
    """
    if len(ours_Q) != len(theirs_Q) or not len(ours_Q):
        raise ValueError(f"values do not pair up: {len(ours_Q)} and {len(theirs_Q)}")
    values_V, counts_V = np.unique(np.asarray(ours_Q, np.float64) - theirs_Q, return_counts=True)
    users = len(ours_Q)
    mean = float(values_V @ counts_V / users)
    rng = np.random.default_rng(seed)
    means_R = np.empty(resamples)
    rows = max(1, MAX_COUNTS // len(values_V))
    for start in range(0, resamples, rows):
        drawn_RV = rng.multinomial(users, counts_V / users, size=min(rows, resamples - start))
        means_R[start : start + rows] = drawn_RV @ values_V / users
    low, high = np.quantile(means_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    # a hair of slack, so that resamples equal to the observed distance count whatever their summation order
    extreme = np.count_nonzero(np.abs(means_R - mean) >= abs(mean) * (1 - 1e-9))
    return Interval(mean, float(low), float(high), (extreme + 1) / (resamples + 1))
