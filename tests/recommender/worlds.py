"""Hand-made interaction data for the recommender's tests."""

import numpy as np

from pipeline.catalog.catalogue import Sequences


def sequences_of(lists: list[list[int]], num_items: int, num_warm: int | None = None) -> Sequences:
    """Leave-one-out sequences of the given item lists."""
    lengths = np.array([len(items) for items in lists])
    held_out = lengths >= 3
    return Sequences(
        user_ids=[f"u{u}" for u in range(len(lists))],
        items=np.concatenate([np.array(items, np.int32) for items in lists]),
        timestamps=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        train_end=np.where(held_out, lengths - 2, lengths).astype(np.int32),
        valid_end=np.where(held_out, lengths - 1, lengths).astype(np.int32),
        num_items=num_items,
        num_warm=num_items if num_warm is None else num_warm,
    )


def cyclic(users: int, num_items: int, seed: int = 0, shortest: int = 4, longest: int = 12) -> Sequences:
    """Everyone walks 0 -> 1 -> 2 -> ... from a random start: the next item is certain."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, num_items, users), rng.integers(shortest, longest + 1, users)
    return sequences_of(
        [[(s + i) % num_items for i in range(n)] for s, n in zip(starts, lengths, strict=True)], num_items
    )
