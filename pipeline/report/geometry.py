"""How a set of item embeddings lies in space: do all share a direction, how many are in use, who has a twin.

What a table of rankings does not show: embeddings that all point one way (mean cosine near 1), that fill a few
directions only (effective rank far below the dimension), or that give many items the same place (near-duplicates).
Every number is exact but those about nearest neighbours of a large catalogue, which are of a seeded sample of items.

Shapes: N items, D dimensions, Q items whose neighbours are sought, K neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MolarError
from pipeline.retrieval.rank import top_k

Floats = NDArray[np.floating]
Indices = NDArray[np.integer]

PAIRS = 1 << 28  # cosines computed for one set of embeddings: a minute of one core for a few hundred dimensions
LEAST = 512  # yet this many items' neighbours are sought at least: a share is then right to 2.2 % (standard error)
NEAR = 0.99  # cosine above which two items are near-duplicates
ROWS = 1 << 16  # items turned to float64 at a time


@dataclass(frozen=True)
class Geometry:
    """The numbers of one set of embeddings (N, D)."""

    dim: int
    mean_cosine: float
    effective_rank: float
    nearest_cosine: float  # median over the queries, of the cosine to the nearest other item
    near_duplicates: float  # share of the queries whose nearest other item has a cosine above NEAR
    exact_duplicates: float
    norm: tuple[float, float, float]  # 5 %, 50 % and 95 % of the items have a norm below
    same: float | None  # see `agreement`
    same_by_chance: float | None


def sample(num_items: int, seed: int, most: int | None = None) -> NDArray[np.int64]:
    """Indices (Q,), ascending: all items, or `most` of them drawn without return.

    Without `most` as many as have their neighbours sought in PAIRS cosines: all of 16,384, 894 of 300,000.
    """
    most = max(LEAST, PAIRS // num_items) if most is None else most
    if num_items <= most:
        return np.arange(num_items)
    return np.sort(np.random.default_rng(seed).choice(num_items, most, replace=False))


def measure(
    embeddings_ND: Floats, queries_Q: Indices, found_QK: Indices, cosines_QK: Floats, values: Sequence[str | None]
) -> Geometry:
    """All numbers of one set of embeddings; `found_QK` and `cosines_QK` are the `neighbours` of `queries_Q`, `values`
    the N items' of an attribute."""
    low, median, high = np.quantile(np.linalg.norm(embeddings_ND, axis=1), [0.05, 0.5, 0.95]).tolist()
    same, by_chance = agreement(queries_Q, found_QK, values)
    return Geometry(
        dim=embeddings_ND.shape[1],
        mean_cosine=mean_cosine(embeddings_ND),
        effective_rank=effective_rank(embeddings_ND),
        nearest_cosine=float(np.median(cosines_QK[:, 0])),
        near_duplicates=float(np.mean(cosines_QK[:, 0] > NEAR)),
        exact_duplicates=exact_duplicates(embeddings_ND),
        norm=(low, median, high),
        same=same,
        same_by_chance=by_chance,
    )


def units(embeddings_ND: Floats) -> NDArray[np.float32]:
    """Each row over its norm, (N, D) float32. A row of zeros stays one: its cosine with anything counts as 0.

    Raises MolarError for what is no number.
    """
    norms_N = np.linalg.norm(embeddings_ND, axis=1)
    if not np.isfinite(norms_N).all():
        raise MolarError(
            f"the embedding of item {int(np.flatnonzero(~np.isfinite(norms_N))[0])} (counted from 0) is not finite: "
            "the model that made it has diverged, run `dvc repro --force --single-item finetune_mirm`"
        )
    return (embeddings_ND / np.where(norms_N > 0, norms_N, 1)[:, None]).astype(np.float32)


def mean_cosine(embeddings_ND: Floats) -> float:
    """Mean cosine of two different items, over all N (N - 1) pairs.

    For unit rows u the sum over all pairs is |sum u|^2 - sum |u|^2, so that no pair has to be drawn.
    """
    rows_ND = units(embeddings_ND)
    total_D = rows_ND.sum(axis=0, dtype=np.float64)
    own = np.einsum("nd,nd->", rows_ND, rows_ND, dtype=np.float64)
    return float((total_D @ total_D - own) / (len(rows_ND) * (len(rows_ND) - 1)))


def effective_rank(embeddings_ND: Floats) -> float:
    """exp(-sum p log p) of p = s / sum s, the singular values s of the (N, D) matrix as it is, not centred.

    From 1 (every row a multiple of one) to min(N, D) (all directions equally strong). Roy and Vetterli, The effective
    rank, EUSIPCO 2007. Singular values are the roots of the (D, D) Gram matrix's eigenvalues; what lies within its
    rounding error of zero counts as zero.
    """
    values_D = np.linalg.eigvalsh(gram(embeddings_ND, np.zeros(embeddings_ND.shape[1])))
    values_D = values_D[values_D > max(embeddings_ND.shape) * np.finfo(np.float64).eps * values_D[-1]]
    if not len(values_D):
        return 0.0  # every row is zero
    p_D = np.sqrt(values_D) / np.sqrt(values_D).sum()
    return float(np.exp(-(p_D * np.log(p_D)).sum()))


def gram(embeddings_ND: Floats, centre_D: Floats) -> NDArray[np.float64]:
    """(x - centre)^T (x - centre), (D, D), summed in float64 a block of rows at a time."""
    dim = embeddings_ND.shape[1]
    total_DD = np.zeros((dim, dim))
    for start in range(0, len(embeddings_ND), ROWS):
        block_BD = embeddings_ND[start : start + ROWS].astype(np.float64) - centre_D
        total_DD += block_BD.T @ block_BD
    return total_DD


def exact_duplicates(embeddings_ND: Floats) -> float:
    """Share of the items whose embedding another item has as well, to the last bit."""
    digests = [blake2b(row.tobytes(), digest_size=16).digest() for row in embeddings_ND]
    times = Counter(digests)
    return sum(times[digest] > 1 for digest in digests) / len(digests)


def neighbours(embeddings_ND: Floats, queries_Q: Indices, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k items of largest cosine to each query, itself left out: items (Q, K) int32, cosines (Q, K) float32.

    Best first, ties by index; K is at most N - 1. The search goes by blocks of queries: the matrix of items x items
    never exists, and memory is that of three copies of the embeddings and a GB.
    """
    rows_ND = units(embeddings_ND)
    itself = [np.array([query]) for query in queries_Q]
    return top_k(rows_ND[queries_Q], rows_ND, min(k, len(rows_ND) - 1), seen=itself)


def agreement(
    queries_Q: Indices, found_QK: Indices, values: Sequence[str | None]
) -> tuple[float, float] | tuple[None, None]:
    """How often a neighbour has its query's value of an attribute, and how often any other item has it (by chance).

    `values` are the N items' (None: has none). Asked of the queries that have a value, over those neighbours, or
    other items, that have one too. None where nobody can be asked.
    """
    codes = {value: code for code, value in enumerate(sorted({value for value in values if value is not None}))}
    code_N = np.array([-1 if value is None else codes[value] for value in values])
    counts = np.bincount(code_N[code_N >= 0], minlength=len(codes))
    own_Q = code_N[queries_Q]
    found_QK, own_Q = code_N[found_QK][own_Q >= 0], own_Q[own_Q >= 0]
    asked_QK = found_QK >= 0
    if not asked_QK.any():
        return None, None
    same = (found_QK == own_Q[:, None])[asked_QK].mean()
    return float(same), float(np.mean((counts[own_Q] - 1) / (counts.sum() - 1)))
