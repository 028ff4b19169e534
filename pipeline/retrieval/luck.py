"""How far the luck of training seeds carries a row, which no test over users can see: all users share it.

Seeds are a second sample beside the users, and a difference between two rows has to stand out from both (Clark 1973 of
words and readers; Dorfman, Berbaum and Metz 1992 of readers and cases). Of a table's values x of rows r, seeds s and
users u, averaged over what a dot stands for,

    between = sum_rs (x_rs. - x_r.. - x_.s. + x_...)^2 / f,   f = (R - 1)(S - 1)
    within  = what `between` would be if users alone made it: the same of every user, around the above, over U
    variance of a difference of two rows = 2/S max(0, between - within)

A seed that is kind to all rows alike (a common teacher, a common MIRM) is no luck. `between` has few degrees of
freedom, and a test that takes it at its word rejects too often; so each draw takes between f / chi2_f, which is what
the unknown mean square may be (Tsui and Weerahandi 1989, generalised p values).

It is pooled over the rows of a table: of its own three seeds a row could tell next to nothing. A row whose luck is
greater than the others' is therefore trusted too much, and popularity, which has none, too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Luck:
    """Mean squares of a mean, and the degrees of freedom of `between`."""

    between: float
    within: float
    degrees: int
    seeds: int

    @property
    def deviation(self) -> float:
        """By how much a seed moves the mean of a row, beyond what the noise of users explains; 0 if by nothing."""
        return float(np.sqrt(max(0.0, self.between - self.within)))

    def draws(self, resamples: int, seed: int = 0) -> NDArray[np.float64]:
        """(resamples,): what luck alone makes of the difference of two rows' means over their seeds."""
        rng = np.random.default_rng([seed, self.seeds])  # a stream of its own beside the users'
        true_R = self.between * self.degrees / rng.chisquare(self.degrees, resamples)
        deviation_R = np.sqrt(2 / self.seeds * np.maximum(0.0, true_R - self.within))
        return np.asarray(deviation_R * rng.standard_normal(resamples))


def luck(values_RSQ: NDArray[np.floating], users_Q: NDArray[np.integer]) -> Luck | None:
    """Of the values of each row, seed and query; queries of one user are one piece of evidence.

    None where it cannot be told: a single row, a single seed, or a single user.
    """
    rows, seeds, queries = values_RSQ.shape
    _, of_Q = np.unique(users_Q, return_inverse=True)
    users, degrees = int(of_Q.max()) + 1, (rows - 1) * (seeds - 1)
    if users < 2 or not degrees:
        return None
    apart_RSQ = _centred(np.asarray(values_RSQ, np.float64))
    means_RS = apart_RSQ.mean(axis=2)
    noise = 0.0
    for apart_Q, mean in zip(apart_RSQ.reshape(-1, queries), means_RS.ravel(), strict=True):
        sums_U = np.bincount(of_Q, apart_Q - mean)
        noise += float(sums_U @ sums_U)
    return Luck(
        between=float((means_RS**2).sum()) / degrees,
        within=users / (users - 1) * noise / degrees / queries**2,
        degrees=degrees,
        seeds=seeds,
    )


def _centred(values_RSQ: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every query what neither its row nor its seed explains."""
    apart_RSQ = values_RSQ - values_RSQ.mean(axis=0)
    apart_RSQ -= apart_RSQ.mean(axis=1, keepdims=True)
    return apart_RSQ
