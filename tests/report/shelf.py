"""A toy shop for reports: plain arrays in place of trained models, and items without files."""

from types import SimpleNamespace

import numpy as np

from pipeline.catalog.catalogue import Queries, Sequences

ITEMS, WARM, USERS = 60, 50, 120


class PlainRecommender:
    """The interface of a trained recommender over fixed vectors: a user is the mean of the last three items."""

    def __init__(self, rankable_N, seed):
        self.num_items, self.rankable = ITEMS, rankable_N
        self.items_ND = np.random.default_rng(seed).normal(size=(ITEMS, 12)).astype(np.float32)

    def item_vectors(self):
        return self.items_ND

    def user_vectors(self, histories, users=None):
        return np.stack([self.items_ND[h[-3:]].mean(axis=0) for h in histories]).astype(np.float32)


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    lengths_U = rng.integers(3, 30, USERS)
    offsets = np.concatenate([[0], np.cumsum(lengths_U)])
    return Sequences(
        user_ids=[f"u{n:03}" for n in range(USERS)],
        items=rng.integers(0, WARM, offsets[-1]).astype(np.int32),
        timestamps=np.arange(offsets[-1]),
        offsets=offsets,
        train_end=(lengths_U - 2).astype(np.int32),
        valid_end=(lengths_U - 1).astype(np.int32),
        num_items=ITEMS,
        num_warm=WARM,
    )


def cold_queries(of, seed=1):
    rng = np.random.default_rng(seed)
    ends = np.diff(of.offsets).astype(np.int32)
    return Queries(np.arange(USERS, dtype=np.int32), ends, rng.integers(WARM, ITEMS, USERS).astype(np.int32))


def items():
    """Stands in for `pipeline.catalog.catalogue.Items`."""
    titles = ["Matrix, The (1999)", "Toy Story (1995)", "Twins", "twins", None, "<b>Heat</b>"]
    return SimpleNamespace(
        item_ids=["10", "11", "12", "13", "14", "15"],
        titles=titles,
        attributes=[{"genre": "Action", "year": "1999"}, *({} for _ in titles[1:])],
        image_bytes=lambda idx: b"\x89PNG picture" if idx == 0 else None,
    )
