"""Training windows: every training transition of every user is a target exactly once per epoch.

A user's training items x_0..x_{n-1} give inputs x_0..x_{n-2} and targets x_1..x_{n-1}, cut into windows of at most
`max_history` positions. The cut's phase is redrawn each epoch, so that the first position of a window, which sees
no history, is not always the same one. Windows of like length share a batch (little padding), batches are shuffled.

Whoever ranks has the whole history, but where windows lie end to end half of a long history's targets see less than
half a window of it. With `overlap` a window begins with so many items whose targets the window before it holds: read
again, not asked again. Every target then sees at least so many items, or all there are, and an epoch has more windows,
max_history / (max_history - overlap) times as many of long histories.

A batch's loss is a mean over its targets: in batches of so many windows a target of a short history therefore weighs
more than one of a long history, in batches of so many targets all weigh alike.
An epoch's batches depend on (seed, epoch) and the training parts alone: resuming needs no sampler state, and users
without training items, of whom a split by time may know some, move nobody's draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.catalog.catalogue import Sequences

BatchOf = Literal["windows", "targets"]

POOL_BATCHES = 32  # windows are sorted by length within pools of this many batches, not globally


@dataclass(frozen=True)
class Batch:
    """Right-padded with item 0; `real_BL` tells items from padding, `asked_BL` those whose target counts here."""

    users_B: Tensor  # int64, user rows
    inputs_BL: Tensor  # int64
    targets_BL: Tensor  # int64
    real_BL: Tensor  # bool
    asked_BL: Tensor  # bool

    @property
    def last_B(self) -> Tensor:
        """Index of each window's last real position, which is always asked."""
        return self.real_BL.sum(1) - 1

    def to(self, device: torch.device) -> Batch:
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def windows(sequences: Sequences, max_history: int, rng: np.random.Generator, overlap: int = 0) -> np.ndarray:
    """(W, 4) int64 rows of (user, start, first, stop): input positions start..stop-1 within the user's training items,
    asked from `first` on.
    """
    rows = []
    users = np.flatnonzero(sequences.train_end)
    counts = np.asarray(sequences.train_end, np.int64)[users] - 1
    phases = rng.integers(1, max_history + 1, len(users))
    for user, count, phase in zip(users, counts, phases, strict=True):
        if count == 0:
            continue
        # a user that fits into one window is never cut
        cuts = [0, count] if count <= max_history else [0, *range(phase, count, max_history - overlap), count]
        rows += [(user, max(first - overlap, 0), first, stop) for first, stop in pairwise(cuts)]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def epoch_batches(
    sequences: Sequences,
    max_history: int,
    batch_size: int,
    batch_of: BatchOf,
    seed: int,
    epoch: int,
    overlap: int = 0,
) -> list[np.ndarray]:
    """The epoch's batches in order, each (n, 4) rows of `windows`.

    Of windows: n is at most batch_size. Of targets: a batch ends with the window that completes another batch_size of
    them, so it holds less than one window more.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(windows(sequences, max_history, rng, overlap))
    batches: list[np.ndarray] = []
    for pool in _cut(rows, batch_size * POOL_BATCHES, batch_of):
        by_length = pool[np.argsort(pool[:, 3] - pool[:, 1], kind="stable")]
        batches += _cut(by_length, batch_size, batch_of)
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: np.ndarray, size: int, of: BatchOf) -> list[np.ndarray]:
    """Consecutive windows in parts of `size` windows, or of about `size` targets."""
    weight = np.ones(len(rows), np.int64) if of == "windows" else targets_in(rows)
    part = (np.cumsum(weight) - weight) // size  # by where a window begins
    return np.split(rows, np.flatnonzero(np.diff(part)) + 1) if len(rows) else []


def targets_in(rows: np.ndarray) -> np.ndarray:
    """(W,) how many targets each window asks for."""
    return rows[:, 3] - rows[:, 2]


def collate(sequences: Sequences, rows: np.ndarray) -> Batch:
    """Windows -> padded tensors."""
    users_B, starts_B, firsts_B, stops_B = rows.T
    lengths_B = stops_B - starts_B
    places_L = np.arange(lengths_B.max())
    real_BL = places_L < lengths_B[:, None]
    asked_BL = real_BL & (places_L >= (firsts_B - starts_B)[:, None])
    inputs_BL, targets_BL = np.zeros(real_BL.shape, np.int64), np.zeros(real_BL.shape, np.int64)
    for b, (user, start, _, stop) in enumerate(rows):
        items = sequences.training(user)
        inputs_BL[b, : stop - start], targets_BL[b, : stop - start] = items[start:stop], items[start + 1 : stop + 1]
    return Batch(*map(torch.from_numpy, (users_B.copy(), inputs_BL, targets_BL, real_BL, asked_BL)))


def padded(histories: list[np.ndarray], max_history: int) -> tuple[Tensor, Tensor]:
    """The last `max_history` items of each history, right-padded: (B, L) int64, and the last real position (B,)."""
    cut = [history[-max_history:] for history in histories]
    lengths_B = np.array([len(history) for history in cut])
    items_BL = np.zeros((len(cut), max(lengths_B.max(), 1)), np.int64)
    items_BL[np.arange(items_BL.shape[1]) < lengths_B[:, None]] = np.concatenate(cut)
    return torch.from_numpy(items_BL), torch.from_numpy(np.maximum(lengths_B - 1, 0))
