"""A world of any size, drawn in seconds, and the SASRec that is trained on it: what scale.py and approximate.py share.

Every item belongs to one of sqrt(items) groups in each of two ways, as a product has a category and a brand. A user
follows one group of either kind and drifts: before any event either may be drawn anew (`DRIFT`), popular groups more
often. An event takes a member of one of the two, popular members more often. So neighbours in a sequence tell what
comes next, no item's neighbourhood is a plain cluster (each lies where two groups cross), and popularity is
Zipf-like: of `n` things the one of rank r is drawn about in proportion to 1 / (r + HEAD). Items may repeat.
Items are numbered from popular to rare within a group, about as `ingest` numbers them, by first appearance.

History lengths are geometric above `SHORTEST`, with the mean `MEAN`, and spread evenly instead of drawn: the first
users of a world are, in their lengths, a fair sample of all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.strength import SASREC, configured
from pipeline.catalog.catalogue import Sequences
from pipeline.params import Params, load_params

SHORTEST, MEAN = 5, 12  # items of a history
DRIFT = 0.1
HEAD = 1.0
BLOCK = 50_000  # users drawn at once, so that drawing takes less memory than the training that is measured
EVEN = 0.6180339887498949  # the golden ratio's multiples fill [0, 1) more evenly than random numbers
HISTORY, BATCH = 50, 128  # items that are read, windows of a batch


def world(users: int, items: int, seed: int = 0) -> Sequences:
    """Leave-one-out sequences of so many users over so many warm items, of which rare ones may occur in none."""
    rng = np.random.default_rng([seed, users, items])
    lengths_U = lengths(users)
    offsets = np.concatenate([[0], np.cumsum(lengths_U)])
    kinds = [_members(rng, items) for _ in range(2)]
    items_T = np.empty(offsets[-1], np.int32)
    for start in range(0, users, BLOCK):
        of_block = offsets[start : start + BLOCK + 1]
        items_T[of_block[0] : of_block[-1]] = _events(rng, of_block - of_block[0], kinds)
    return Sequences(
        user_ids=[f"u{user}" for user in range(users)],
        items=items_T,
        timestamps=np.arange(len(items_T), dtype=np.int64),
        offsets=offsets,
        train_end=(lengths_U - 2).astype(np.int32),
        valid_end=(lengths_U - 1).astype(np.int32),
        num_items=items,
        num_warm=items,
    )


def lengths(users: int) -> np.ndarray:
    """Items (U,) int64 of each user's history."""
    more = MEAN - SHORTEST
    even_U = np.arange(1, users + 1) * EVEN % 1
    longer_U = np.log1p(-even_U) / np.log(more / (more + 1))  # the geometric distribution's quantiles
    return SHORTEST + longer_U.astype(np.int64)


def zipf(uniform: np.ndarray, sizes: int | np.ndarray) -> np.ndarray:
    """Ranks int64 below `sizes`, from numbers in [0, 1): density 1 / (rank + HEAD), by its quantiles."""
    ranks = HEAD * ((sizes + HEAD) / HEAD) ** uniform - HEAD
    return np.minimum(ranks.astype(np.int64), sizes - 1)


def _members(rng: np.random.Generator, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (N,) by group, popular ones first, and where each group starts (G + 1,)."""
    groups = max(1, round(items**0.5))
    group_N = rng.permutation(items) % groups
    starts = np.concatenate([[0], np.cumsum(np.bincount(group_N))])
    return np.argsort(group_N, kind="stable").astype(np.int32), starts


def _events(rng: np.random.Generator, offsets: np.ndarray, kinds: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Items (T,) int32 of users that own `offsets[u]:offsets[u + 1]`."""
    total = offsets[-1]
    followed_T = rng.integers(0, len(kinds), total)
    items_T = np.empty(total, np.int32)
    for kind, (members_N, starts) in enumerate(kinds):
        anew_T = rng.random(total) < DRIFT
        anew_T[offsets[:-1]] = True
        since_T = np.maximum.accumulate(np.where(anew_T, np.arange(total), 0))
        group_T = zipf(rng.random(total), len(starts) - 1)[since_T]
        here = np.flatnonzero(followed_T == kind)
        first = starts[group_T[here]]
        items_T[here] = members_N[first + zipf(rng.random(len(here)), starts[group_T[here] + 1] - first)]
    return items_T


def sasrec(objective: Mapping[str, object], epochs: int, **training: object) -> Params:
    """The committed params with a SASRec of 64 dimensions, 2 layers, 2 heads, history 50, in batches of 128 windows;
    `objective` has keys below train_teacher.objective, `training` those below train_teacher.training."""
    params = load_params()
    protocol = params.protocol.model_copy(update={"max_history": HISTORY, "mask_seen": False})
    overrides = SASREC | {"sasrec.dropout": 0.2, "training.batch_size": BATCH, "training.batch_of": "windows"}
    overrides |= {f"objective.{key}": value for key, value in objective.items()}
    overrides |= {f"training.{key}": value for key, value in training.items()}
    return configured(params.model_copy(update={"protocol": protocol}), "sasrec", overrides, epochs, epochs)
