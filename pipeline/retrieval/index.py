"""FAISS indexes over item vectors, asked for the largest inner products: flat (exact), IVF and HNSW (approximate).

Promises. A built index has the same bytes whatever the number of threads. `search` returns what `rank.top_k` returns,
as far as the index finds it: candidates are scored again by our own dot product and put in our own order, so FAISS's
float32 rounding and its tie rule cannot be seen. Through a flat index the two are equal, always: an item that FAISS
left out scores at most the last one it returned plus the rounding of a float32 product, and where that bound does not
settle the k-th place, the search goes deeper.

HNSW's graph is one of distances: one more coordinate makes all items equally long, so that the nearest to (u, 0) is
the largest inner product with u (Bachrach et al., RecSys 2014). Over trained embeddings such a graph finds what one
built by inner product misses a third of (docs/results.md; where lengths have a heavy tail, and tell nothing of the
direction, it is the other way round).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MolarError
from pipeline.retrieval.rank import pair_scores, top_k
from pipeline.retrieval.sieve import flat_rows

SLACK = 8  # fetched beyond what is asked for, so that the rounding bound is seldom met
GPU_DEPTH = 2048  # FAISS's own limit of k on a GPU
FEW = 20  # times as many items as candidates: ranked without the index, which would fetch nearly all it has
BLOCK = 1024  # queries searched at once, at least, where there are so many; more where vectors are short:
PRODUCTS_FROM = 128_000  # numbers, of the queries together, from which on FAISS 1.15 multiplies matrices, far faster
MAX_FETCHED = 1 << 22  # items that may come back at once: fewer queries where they would be more


def build(
    items_ND: NDArray[np.float32],
    rankable_N: NDArray[np.bool_],
    kind: Literal["flat", "ivf", "hnsw"],
    *,
    ivf_lists: int,
    ivf_probes: int,
    hnsw_neighbours: int,
    hnsw_ef: int,
) -> Any:
    """An index of the rankable items under their own numbers. The settings of the other kinds are not looked at.

    Raises MolarError when there are fewer items than inverted lists, or none at all.
    """
    ids_M = np.flatnonzero(rankable_N).astype(np.int64)
    vectors_MD = np.ascontiguousarray(items_ND[ids_M], dtype=np.float32)
    if not len(ids_M):
        raise MolarError("build_index: no item has a vector to search: train_dueg left none rankable")
    width = vectors_MD.shape[1]
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # HNSW links items in the order that threads come by
    try:
        index: Any
        if kind == "ivf":
            if len(ids_M) < ivf_lists:
                raise MolarError(
                    f"build_index.ivf_lists = {ivf_lists} is more than the {len(ids_M)} items there are: lower it, "
                    "or set build_index.kind to flat"
                )
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, ivf_lists, faiss.METRIC_INNER_PRODUCT)
            index.cp.min_points_per_centroid = 1  # small catalogues are fine: no warning
            index.nprobe = min(ivf_probes, ivf_lists)
            index.train(vectors_MD)
        elif kind == "hnsw":
            vectors_MD = _equally_long(vectors_MD)
            graph = faiss.IndexHNSWFlat(width + 1, hnsw_neighbours, faiss.METRIC_L2)
            graph.hnsw.efConstruction = graph.hnsw.efSearch = hnsw_ef
            index = faiss.IndexIDMap(graph)
        else:
            index = faiss.IndexIDMap(faiss.IndexFlatIP(width))
        index.add_with_ids(vectors_MD, ids_M)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _equally_long(vectors_MD: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, D + 1): the vectors with a coordinate that brings each to the length of the longest."""
    squares_M = np.square(vectors_MD.astype(np.float64)).sum(axis=1)
    return np.column_stack([vectors_MD, np.sqrt(squares_M.max() - squares_M)]).astype(np.float32)


def write(index: Any, path: Path) -> None:
    """Write in FAISS's own format, which carries probes and breadth too."""
    faiss.write_index(index, str(path))


def read(path: Path) -> Any:
    """The index that `write` wrote. The caller has verified the file."""
    return faiss.read_index(str(path))


def listed_ranks(items_QK: NDArray[np.integer], targets_Q: NDArray[np.integer], num_items: int) -> NDArray[np.int64]:
    """Place (Q,) int64 of each target in its list; the number of items (a miss) where it is not in it."""
    hit_QK = items_QK == np.asarray(targets_Q)[:, None]
    return np.where(hit_QK.any(axis=1), hit_QK.argmax(axis=1), num_items)


class Searcher:
    """An index ready to be asked, on a GPU where there is one and this build of FAISS can use it.

    Raises MolarError when the index is of vectors of another width: it was built from other models.
    """

    def __init__(self, index: Any, items_ND: NDArray[np.float32], device: str = "cpu") -> None:
        self.index, self.items_ND = index, items_ND
        self._is_graph = isinstance(index, faiss.IndexIDMap) and isinstance(
            faiss.downcast_index(index.index), faiss.IndexHNSWFlat
        )
        self._is_exact = isinstance(index, faiss.IndexIDMap) and not self._is_graph
        width = items_ND.shape[1]
        if (held := index.d - self._is_graph) != width:
            raise MolarError(
                f"the index holds vectors of {held} numbers and the models now give {width}: "
                "run `dvc repro build_index`"
            )
        self._on_gpu = None  # a graph has no GPU form
        has_gpus = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()  # 0 where the driver does not fit
        if device.startswith("cuda") and has_gpus and not self._is_graph:
            self._resources = faiss.StandardGpuResources()  # must outlive the index
            number = int(device.partition(":")[2] or 0)  # cuda, cuda:1
            self._on_gpu = faiss.index_cpu_to_gpu(self._resources, number, index)
        # |float32 dot product - exact one| <= D * 2^-24 * |u| * |v| / (1 - D * 2^-24), for any order of summation;
        # twice that also covers our own rounding to float32
        longest = float(np.linalg.norm(items_ND.astype(np.float64), axis=1).max(initial=0.0))
        self._rounding = 2 * (width + 1) * 2.0**-24 * longest

    def search(
        self,
        users_QD: NDArray[np.float32],
        k: int,
        seen: Sequence[NDArray[np.integer]] | None = None,
        candidates: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k best indexed candidates of each query, as `rank.top_k`: (Q, k) int32 and float32, -1 where exhausted.

        Items of `seen` (and those that are no candidates) are dropped after the search, which therefore fetches more.
        """
        if self._is_exact and candidates is not None and candidates.sum() * FEW < self.index.ntotal:
            indexed_N = np.zeros(len(self.items_ND), np.bool_)
            indexed_N[faiss.vector_to_array(self.index.id_map)] = True
            return top_k(users_QD, self.items_ND, k, seen, candidates & indexed_N)
        items_QK = np.full((len(users_QD), k), -1, np.int32)
        scores_QK = np.full((len(users_QD), k), -np.inf, np.float32)
        kept = len(self.items_ND) if candidates is None else max(int(candidates.sum()), 1)
        first_depth = (k + SLACK) * -(-len(self.items_ND) // kept)
        longest_seen = np.array([len(s) for s in seen]) if seen is not None else np.zeros(len(users_QD), np.int64)
        order = np.argsort(longest_seen, kind="stable")  # a block fetches as much as its longest history asks for
        block = max(BLOCK, -(-PRODUCTS_FROM // users_QD.shape[1]))
        for open_Q in np.array_split(order, max(1, len(order) // block)):  # no rest, which would be a slow one
            depth = first_depth + int(longest_seen[open_Q].max(initial=0))
            while len(open_Q):
                depth = min(depth, self.index.ntotal)
                unsettled: list[NDArray[np.int64]] = []
                rows = max(1, MAX_FETCHED // depth)
                for asked_B in np.array_split(open_Q, -(-len(open_Q) // rows)):
                    settled_B, items_BK, scores_BK = self._fetch(users_QD, asked_B, k, depth, seen, candidates)
                    items_QK[asked_B, : items_BK.shape[1]] = items_BK
                    scores_QK[asked_B, : items_BK.shape[1]] = scores_BK
                    unsettled.append(asked_B[~settled_B])
                open_Q, depth = np.concatenate(unsettled), depth * 2
        return items_QK, scores_QK

    def target_ranks(
        self,
        users_QD: NDArray[np.float32],
        targets_Q: NDArray[np.integer],
        depth: int,
        seen: Sequence[NDArray[np.integer]] | None = None,
        candidates: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Rank (Q,) int64 of each target in its list of `depth`; the number of items (a miss) where it is not in it."""
        items_QK, _ = self.search(users_QD, depth, seen, candidates)
        return listed_ranks(items_QK, targets_Q, len(self.items_ND))

    def _fetch(
        self,
        users_QD: NDArray[np.float32],
        open_Q: NDArray[np.int64],
        k: int,
        depth: int,
        seen: Sequence[NDArray[np.integer]] | None,
        candidates: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.float32]]:
        """One search of some queries at one depth: which of them are settled, their items and scores (B, <= k)."""
        users_BD = np.ascontiguousarray(users_QD[open_Q], dtype=np.float32)
        backend = self._on_gpu if self._on_gpu is not None and depth <= GPU_DEPTH else self.index
        if self._is_graph:  # what a walk does not meet has no bound
            _, ids_BM = backend.search(np.pad(users_BD, ((0, 0), (0, 1))), depth)
            floor_B = np.full(len(users_BD), -np.inf)
        else:
            found_BM, ids_BM = backend.search(users_BD, depth)
            floor_B = found_BM[:, -1] + self._rounding * np.linalg.norm(users_BD.astype(np.float64), axis=1)
        exhausted_B = (ids_BM < 0).any(axis=1) | (depth == self.index.ntotal)

        dropped_BM = ids_BM < 0
        if candidates is not None:
            dropped_BM |= ~candidates[ids_BM]
        if seen is not None:
            rows, items = flat_rows([seen[q] for q in open_Q])
            pairs = rows * len(self.items_ND) + items
            dropped_BM |= np.isin(np.arange(len(open_Q))[:, None] * len(self.items_ND) + ids_BM, pairs)
        ids_BM = np.where(dropped_BM, -1, ids_BM)
        scores_BM = pair_scores(users_BD, self.items_ND, ids_BM)
        best_BK = np.lexsort((ids_BM, -scores_BM), axis=1)[:, :k]
        items_BK = np.take_along_axis(ids_BM, best_BK, axis=1).astype(np.int32)
        scores_BK = np.take_along_axis(scores_BM, best_BK, axis=1)
        full_B = items_BK.shape[1] == k and (items_BK[:, -1] >= 0) & (scores_BK[:, -1] > floor_B)
        return exhausted_B | full_B, items_BK, scores_BK
