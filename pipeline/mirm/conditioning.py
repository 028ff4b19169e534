"""Centring and whitening of frozen embeddings (WhitenRec, ICDE 2024), fitted on items with training interactions.

A language model's hidden states share one large direction and a few strong ones, so raw dot products see little
else. pca turns to the principal axes and scales each to unit variance, zca turns back afterwards. Eigenvalues are
floored at a share of the largest: the weakest axes are noise, and scaling them up fully drowns the rest.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.errors import MolarError


def fit(
    embeddings_ND: np.ndarray, rows: np.ndarray, kind: Literal["none", "centre", "zca", "pca"], floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """mean float64 (D,), matrix float64 (D, D) of x -> (x - mean) @ matrix; only `rows` (indices) are looked at.

    Raises MolarError if whitening is asked for and the rows do not differ.
    """
    dim = embeddings_ND.shape[1]
    if kind == "none":
        return np.zeros(dim), np.eye(dim)
    sample_SD = embeddings_ND[rows].astype(np.float64)  # our own copy, and the one large array of doubles
    mean_D = sample_SD.mean(axis=0)
    if kind == "centre":
        return mean_D, np.eye(dim)
    sample_SD -= mean_D
    values_D, axes_DD = np.linalg.eigh(sample_SD.T @ sample_SD / len(sample_SD))
    values_D, axes_DD = values_D[::-1], axes_DD[:, ::-1]  # strongest first
    if values_D[0] <= 0:
        raise MolarError(
            f"embed_items.conditioning.kind = '{kind}': the embeddings of all {len(rows)} training items are equal: "
            "does the catalogue hold what embed_items.encoder and embed_items.modality ask for?"
        )
    # An eigenvector's sign is arbitrary; this one makes the file the same wherever it is fitted.
    largest = np.abs(axes_DD).argmax(axis=0)
    axes_DD = axes_DD * np.sign(axes_DD[largest, np.arange(dim)])
    least = max(floor, np.finfo(np.float64).eps)
    scaled_DD = axes_DD / np.sqrt(np.maximum(values_D, least * values_D[0]))
    return mean_D, scaled_DD if kind == "pca" else scaled_DD @ axes_DD.T
