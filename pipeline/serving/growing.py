"""An index that stands, and beside it the vectors of items that came since: one ranked list of both.

Promise: `search` gives what an index of all of them would give. New items have the numbers after the indexed ones and
are scored by the same dot product, one by one, so a flat index and its new items are exact together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.retrieval.index import Searcher
from pipeline.retrieval.rank import pair_scores

Found = tuple[NDArray[np.int32], NDArray[np.float32]]  # items (Q, K), -1 where exhausted, and their scores (Q, K)


class Growing:
    """A searcher of N indexed items and of A new ones, none at first."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher, self._num_indexed = searcher, len(searcher.items_ND)
        self._new_AD = searcher.items_ND[:0]

    def grow(self, items_MD: NDArray[np.float32]) -> None:
        """From now on the items are these (N + A, D), of which the index holds the first."""
        self._new_AD = items_MD[self._num_indexed :]

    def search(
        self,
        users_QD: NDArray[np.float32],
        k: int,
        seen: Sequence[NDArray[np.integer]] | None = None,
        candidates_M: NDArray[np.bool_] | None = None,
    ) -> Found:
        """As `Searcher.search`: (Q, k) int32 and float32, best first, ties by number, -1 and -inf where exhausted."""
        known = self._num_indexed
        old_seen = None if seen is None else [items[items < known] for items in seen]
        old_candidates = None if candidates_M is None else candidates_M[:known]
        found_QK, scores_QK = self._searcher.search(users_QD, k, old_seen, old_candidates)
        if not len(self._new_AD):
            return found_QK, scores_QK
        new_QA = np.repeat(np.arange(len(self._new_AD))[None], len(users_QD), axis=0)
        if candidates_M is not None:
            new_QA[:, ~candidates_M[known:]] = -1
        for row, items in enumerate(seen or ()):
            new_QA[row, items[items >= known] - known] = -1
        both_QM = np.concatenate([found_QK, np.where(new_QA < 0, -1, new_QA + known)], axis=1)
        scores_QM = np.concatenate([scores_QK, pair_scores(users_QD, self._new_AD, new_QA)], axis=1)
        best_QK = np.lexsort((both_QM, -scores_QM), axis=1)[:, :k]
        items_QK = np.take_along_axis(both_QM, best_QK, axis=1).astype(np.int32)
        return items_QK, np.take_along_axis(scores_QM, best_QK, axis=1)
