"""Which items a sampled objective compares a target with: drawn anew each step, from trained items, with replacement.

An item's weight is 1 (`uniform`), or its training interactions (`popularity`: an item without any is never drawn).
Negatives are shared by a batch or drawn for each position, never its target: of a shared draw the positions whose
target was drawn leave it out (objective.py), and for a position of its own the target's weight is cut out of the line
on which the draw falls, so that no draw is ever rejected.

A draw depends on (seed, step) alone, not on torch's generator: whatever is drawn, the same units are dropped out, and
resuming needs no state.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import MolarError

Draw = Literal["uniform", "popularity"]

NEGATIVES = 1  # of (seed, step, this): a stream of its own beside the epochs' batches


class Negatives:
    """Draws from V trained items by their training interactions `counts_V`.

    Raises MolarError where only one item could ever be drawn.
    """

    def __init__(self, draw: Draw, counts_V: np.ndarray, seed: int) -> None:
        self.weights_V = np.ones(len(counts_V), np.int64) if draw == "uniform" else np.asarray(counts_V, np.int64)
        if np.count_nonzero(self.weights_V) < 2:
            raise MolarError("objective: negatives need two items with training interactions; use kind: softmax")
        self.until_V, self.seed = np.cumsum(self.weights_V), seed

    def shared(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Items (K,) int64 for a whole batch, and the log of how often each is expected among the K."""
        drawn_K = self._items(self._rng(step).integers(0, self.until_V[-1], count))
        return torch.from_numpy(drawn_K), self._log_expected(drawn_K, count, self.until_V[-1])

    def own(self, targets_T: Tensor, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Items (T, K) int64 that are not the position's target, and the log of how often each is expected there."""
        targets_T1 = targets_T.cpu().numpy()[:, None]
        weight_T1, until_T1 = self.weights_V[targets_T1], self.until_V[targets_T1]
        others_T1 = self.until_V[-1] - weight_T1
        at_TK = self._rng(step).integers(0, others_T1, (len(targets_T1), count))
        at_TK += np.where(at_TK >= until_T1 - weight_T1, weight_T1, 0)
        drawn_TK = self._items(at_TK)
        return torch.from_numpy(drawn_TK), self._log_expected(drawn_TK, count, others_T1)

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, step, NEGATIVES])

    def _items(self, at: np.ndarray) -> np.ndarray:
        """The item on whose stretch of the line a point falls."""
        return np.searchsorted(self.until_V, at, side="right")

    def _log_expected(self, drawn: np.ndarray, count: int, total: np.ndarray) -> Tensor:
        return torch.from_numpy(np.log(count * self.weights_V[drawn] / total).astype(np.float32))
