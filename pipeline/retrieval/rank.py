"""Exact full ranking, streamed in blocks of users: the matrix of users x items never exists as a whole.

Dot products go through `sieve`, which ranks nearly every query at the speed of a float32 product, on a CPU or a GPU;
what it leaves open, and scores that are no dot product, are ranked the plain way here.

Promise: the order is by score, then by item index, and it depends on nothing else. Dot products are therefore summed
in float64 and rounded to float32: equal item vectors then tie exactly, where a float32 product may tell them apart by
the corner of the BLAS tile they fall into, and the size of a block cannot move a rank.

Items of the history are out of the ranking where `seen` is given. A target that is itself in the history is then a
miss, as is a target that is no candidate: its rank is the number of items, which no cutoff reaches.

Shapes: Q queries, B queries of a block, N items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import MolarError
from pipeline.retrieval import sieve
from pipeline.retrieval.sieve import Floats, flat_rows

Scorer = Callable[[slice], Floats]  # queries -> a fresh (B, N) float array, higher is better; it will be overwritten

MAX_SCORES = 1 << 25  # scores held at once the plain way, with a few copies of them: below half a GB
ITEMS = 1 << 14  # item vectors held in float64 at once


def target_ranks(
    users_QD: Floats,
    items_ND: Floats,
    targets_Q: NDArray[np.integer],
    seen: Sequence[NDArray[np.integer]] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    block: int = 512,
    device: str = "cpu",
) -> NDArray[np.int64]:
    """Rank (Q,) int64 of each query's target, from 0: how many candidates have a higher score, or the same score and
    a lower index.

    users_QD, items_ND float, targets_Q item indices, `seen` Q arrays of item indices to leave out, `candidates` (N,)
    bool; `device` is torch's name of where to compute and moves no rank. Raises MolarError when a vector holds a NaN or
    an infinity.
    """
    refuse_diverged(users_QD, items_ND)
    targets_Q = np.asarray(targets_Q, np.int64)
    missed_Q = np.zeros(len(targets_Q), np.bool_) if candidates is None else ~candidates[targets_Q]
    if seen is not None:
        rows_P, items_P = flat_rows(seen)
        missed_Q[rows_P[items_P == targets_Q[rows_P]]] = True
    if missed_Q.all():
        return np.full(len(targets_Q), len(items_ND))
    ranks_Q, open_Q = sieve.target_ranks(sieve.Sieve(users_QD, items_ND, seen, candidates, block, device), targets_Q)
    left_L = np.flatnonzero(open_Q & ~missed_Q)
    if len(left_L):
        scorer, seen_L = (
            dot_scorer(users_QD[left_L], items_ND),
            None if seen is None else [seen[int(q)] for q in left_L],
        )
        ranks_Q[left_L] = scored_target_ranks(scorer, len(items_ND), targets_Q[left_L], seen_L, candidates, block)
    return np.where(missed_Q, len(items_ND), ranks_Q)


def scored_target_ranks(
    scorer: Scorer,
    num_items: int,
    targets_Q: NDArray[np.integer],
    seen: Sequence[NDArray[np.integer]] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    block: int = 512,
) -> NDArray[np.int64]:
    """`target_ranks` for scores that are no dot product: the general form.

    Raises MolarError when a score is NaN: a diverged model would otherwise rank every target first.
    """
    ranks_Q = np.empty(len(targets_Q), np.int64)
    columns_N = np.arange(num_items)
    for queries in _blocks(len(targets_Q), num_items, block):
        targets_B = np.asarray(targets_Q[queries], np.int64)
        scores_BN, missed_B = _masked(scorer, queries, num_items, seen, candidates, targets_B)
        targets_B1 = targets_B[:, None]
        target_scores_B1 = np.take_along_axis(scores_BN, targets_B1, axis=1)
        ranks_B = np.count_nonzero(scores_BN > target_scores_B1, axis=1)
        tied_B = np.count_nonzero(scores_BN == target_scores_B1, axis=1) > 1  # the target equals itself
        if tied_B.any():
            equal_TN = scores_BN[tied_B] == target_scores_B1[tied_B]
            ranks_B[tied_B] += np.count_nonzero(equal_TN & (columns_N < targets_B1[tied_B]), axis=1)
        ranks_Q[queries] = np.where(missed_B, num_items, ranks_B)
    return ranks_Q


def top_k(
    users_QD: Floats,
    items_ND: Floats,
    k: int,
    seen: Sequence[NDArray[np.integer]] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    block: int = 512,
    device: str = "cpu",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best candidates of each query: items (Q, k) int32 and scores (Q, k) float32, best first, ties by index.

    Where fewer than k candidates are left the rest is item -1 with score -inf. `device` and errors as `target_ranks`.
    """
    refuse_diverged(users_QD, items_ND)
    if not len(items_ND) or (candidates is not None and not candidates.any()):
        return np.full((len(users_QD), k), -1, np.int32), np.full((len(users_QD), k), -np.inf, np.float32)
    items_QK, scores_QK, open_Q = sieve.top_k(sieve.Sieve(users_QD, items_ND, seen, candidates, block, device), k)
    left_L = np.flatnonzero(open_Q)
    if len(left_L):
        scorer, seen_L = (
            dot_scorer(users_QD[left_L], items_ND),
            None if seen is None else [seen[int(q)] for q in left_L],
        )
        found = scored_top_k(scorer, len(left_L), len(items_ND), k, seen_L, candidates, block)
        items_QK[left_L], scores_QK[left_L] = found
    return items_QK, scores_QK


def scored_top_k(
    scorer: Scorer,
    num_queries: int,
    num_items: int,
    k: int,
    seen: Sequence[NDArray[np.integer]] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    block: int = 512,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """`top_k` for scores that are no dot product. Raises MolarError when a score is NaN."""
    items_QK = np.full((num_queries, k), -1, np.int32)
    scores_QK = np.full((num_queries, k), -np.inf, np.float32)
    kept = min(k, num_items)
    for queries in _blocks(num_queries, num_items, block):
        scores_BN, _ = _masked(scorer, queries, num_items, seen, candidates, None)
        keys_BK = np.partition(_sort_keys(scores_BN), num_items - kept, axis=1)[:, num_items - kept :]
        keys_BK = np.sort(keys_BK, axis=1)[:, ::-1]
        items_BK = (_LOW - (keys_BK & _LOW)).astype(np.int32)
        left_BK = keys_BK != _MASKED
        items_QK[queries, :kept] = np.where(left_BK, items_BK, -1)
        found_BK = np.take_along_axis(scores_BN, np.where(left_BK, items_BK, 0), axis=1)
        scores_QK[queries, :kept] = np.where(left_BK, found_BK, -np.inf)
    return items_QK, scores_QK


def refuse_diverged(*vectors: Floats) -> None:
    """Raise MolarError where a vector is not of finite numbers."""
    if not all(np.isfinite(of).all() for of in vectors):
        raise MolarError(
            "a user or item vector holds a NaN or an infinity: the model that made it has diverged, lower its "
            "training.learning_rate"
        )


def dot_scorer(users_QD: Floats, items_ND: Floats) -> Scorer:
    """Scores of a block of queries as dot products (B, N) float32, summed in float64 (see the module's promise)."""
    refuse_diverged(users_QD, items_ND)

    def scorer(queries: slice) -> Floats:
        users_BD = np.asarray(users_QD[queries], np.float64)
        scores_BN = np.empty((len(users_BD), len(items_ND)), np.float32)
        for start in range(0, len(items_ND), ITEMS):
            part = slice(start, start + ITEMS)
            scores_BN[:, part] = users_BD @ np.asarray(items_ND[part], np.float64).T
        return scores_BN

    return scorer


def pair_scores(users_QD: Floats, items_ND: Floats, items_QK: NDArray[np.integer]) -> NDArray[np.float32]:
    """Scores (Q, K) float32 of given items per query, as `top_k` gives them; -inf where the item is -1."""
    rows_P = torch.arange(len(users_QD)).repeat_interleave(items_QK.shape[1])
    columns_P = torch.from_numpy(np.ascontiguousarray(items_QK, np.int64).ravel())
    scores_P = sieve.exact_scores(sieve.tensor(users_QD), sieve.tensor(items_ND), rows_P, columns_P)
    return np.where(items_QK < 0, np.float32(-np.inf), scores_P.numpy().reshape(items_QK.shape))


def _blocks(num_queries: int, width: int, block: int) -> Iterator[slice]:
    size = max(1, min(block, MAX_SCORES // max(width, 1)))
    for start in range(0, num_queries, size):
        yield slice(start, min(start + size, num_queries))


def _masked(
    scorer: Scorer,
    queries: slice,
    num_items: int,
    seen: Sequence[NDArray[np.integer]] | None,
    candidates: NDArray[np.bool_] | None,
    targets_B: NDArray[np.int64] | None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores (B, N) with NaN at what is out of the ranking, and (B,) whether the target is out of it.

    NaN rather than -inf, because it is neither above nor equal to anything: a score of -inf stays a score.
    """
    scores_BN = scorer(queries)
    if scores_BN.shape != (queries.stop - queries.start, num_items):
        raise ValueError(f"the scorer gave {scores_BN.shape}, not {(queries.stop - queries.start, num_items)}")
    if scores_BN.size and np.isnan(scores_BN.min()):  # min hands on a NaN
        raise MolarError("a score is NaN: the model that made it has diverged")
    if candidates is not None:
        scores_BN[:, np.flatnonzero(~candidates)] = np.nan
    if seen is not None:
        rows, columns = flat_rows(seen[queries])
        scores_BN[rows, columns] = np.nan
    if targets_B is None:
        return scores_BN, np.zeros(len(scores_BN), np.bool_)
    return scores_BN, np.isnan(np.take_along_axis(scores_BN, targets_B[:, None], axis=1)[:, 0])


_LOW = np.int64(0xFFFFFFFF)
_MASKED = np.iinfo(np.int64).min


def _sort_keys(scores_BN: Floats) -> NDArray[np.int64]:
    """One int64 per score that sorts by score, then by descending index: partition then needs no tie rule.

    High half: the float32's bits made monotone as a signed integer; low half: the complement of the item's index.
    """
    bits_BN = (scores_BN.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0 makes -0 into 0
    ordered_BN = (bits_BN ^ ((bits_BN >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    keys_BN = (ordered_BN << 32) | (_LOW - np.arange(scores_BN.shape[1]))
    keys_BN[np.isnan(scores_BN)] = _MASKED
    return keys_BN
