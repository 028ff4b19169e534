"""Orders over millions of rows: stable sorts by one integer key, and numbering by first appearance."""

from __future__ import annotations

import numpy as np


def stable_argsort(keys: np.ndarray) -> np.ndarray:
    """np.argsort(keys, kind="stable") of integer keys: int64 (N,).

    Key and position packed into one int64 sort by value, which numpy does with vector instructions: a fifth of the
    time for nine million timestamps. Keys too wide for that take the ordinary way.
    """
    if not len(keys):
        return np.zeros(0, np.int64)
    least, position_bits = int(keys.min()), len(keys).bit_length()
    if (int(keys.max()) - least).bit_length() + position_bits > 63:
        return np.argsort(keys, kind="stable")
    packed = keys.astype(np.int64) - least
    packed <<= position_bits
    packed |= np.arange(len(keys))
    packed.sort()
    packed &= (1 << position_bits) - 1
    return packed


def by_first_appearance(codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(order, number) of codes below `size`: `order` lists the distinct ones as they first appear, `number[code]` is
    its place, int32, or -1."""
    first = np.full(size, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several writes to one place the last one stays
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
    number = np.full(size, -1, dtype=np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    return order, number
