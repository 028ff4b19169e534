"""How much of the ID teacher's user vector can be read from a content vector: what alignment is after.

The two live in different spaces, and the adapter that joined them in training is not kept; so a linear map is fitted
anew on half of the users (ridge regression, both sides centred) and judged on the other half: the mean cosine between
a user's mapped vector and the teacher's, and how often the teacher's vector of that very user is the nearest of all.
A number means something beside another one's alone: of a user model that was not aligned, or of no model at all.

Shapes: U users, H of them held out, D dimensions of content, E of the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-3  # of the mean variance of a content dimension


@dataclass(frozen=True)
class Agreement:
    """Of `among` held-out users. By chance `nearest` would be 1 / among, the cosine 0."""

    cosine: float
    nearest: float  # share of users whose own teacher vector is the nearest one
    among: int


def agreement(content_UD: NDArray[np.floating], teacher_UE: NDArray[np.floating], seed: int) -> Agreement:
    """Read the teacher's vectors from the content ones; memory 2 U^2 bytes. Raises ValueError: fewer than four."""
    if len(content_UD) < 4:
        raise ValueError("four users at least: two to fit the map, two to tell apart")
    order_U = np.random.default_rng(seed).permutation(len(content_UD))
    fitted_F, held_H = np.array_split(order_U, 2)
    one_UD, other_UE = _centred(content_UD, fitted_F), _centred(teacher_UE, fitted_F)
    gram_DD = one_UD[fitted_F].T @ one_UD[fitted_F]
    gram_DD += RIDGE * (np.trace(gram_DD) / len(gram_DD) or 1.0) * np.eye(len(gram_DD))
    map_DE = np.linalg.solve(gram_DD, one_UD[fitted_F].T @ other_UE[fitted_F])
    cosines_HH = _unit(one_UD[held_H] @ map_DE) @ _unit(other_UE[held_H]).T
    nearest_H = cosines_HH.argmax(axis=1) == np.arange(len(held_H))
    return Agreement(float(np.diag(cosines_HH).mean()), float(nearest_H.mean()), len(held_H))


def _centred(rows_UD: NDArray[np.floating], on: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.asarray(rows_UD - rows_UD[on].mean(axis=0, dtype=np.float64), np.float64)


def _unit(rows_HE: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths_H1 = np.linalg.norm(rows_HE, axis=1, keepdims=True)
    return np.asarray(rows_HE / np.where(lengths_H1 > 0, lengths_H1, 1))
