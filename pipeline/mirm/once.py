"""Every item once: the loop that all encoders share, known vectors from the cache.

Promise: what the cache knows is not computed; every batch is remembered as soon as it is done, so a killed run goes on.
Several processes share one cache: each finds or encodes the items whose digests fall to it, so that they agree without
a word and whatever the others have stored meanwhile; then the first one reads the vectors of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.mirm import cache
from pipeline.progress import bar


@dataclass(frozen=True)
class Embedded:
    embeddings_ND: np.ndarray  # float32, in item_idx order; no rows but on the first process
    encoded: int
    from_cache: int
    rate: float  # items per second, known ones included
    cache_bytes: int


class ItemEncoder(Protocol):
    """What turns items into vectors."""

    def key(self, item: int) -> bytes | None:
        """What the item's vector depends on, besides the model. None: it has nothing to encode, and gets zeros."""

    def batches(self, items: Sequence[int]) -> Iterable[list[int]]:
        """These items, in one batch each."""

    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D)."""


def embed_once(encoder: ItemEncoder, name: str, about: str, num_items: int) -> Embedded:
    """Embed all items (at least one has a key). `name` is the cache's (`cache.scope`), `about` says what is in it.

    Called by all processes, which have joined. Counts are of all of them.
    Raises MolarError: they are not on one machine, or the cache's file is damaged or held by another run.
    """
    keys = [encoder.key(item) for item in range(num_items)]
    wanted = [key for key in keys if key is not None]
    own = [key for key in wanted if _is_own(key)]
    with _shared(name, about) as known, bar("embed items", len(own), "items") as progress:
        vectors = known.find(own)
        # An item twice in the catalogue has one key and needs one vector.
        missing = {
            key: item for item, key in enumerate(keys) if key is not None and _is_own(key) and key not in vectors
        }
        progress.advance(len(own) - len(missing))
        for batch in encoder.batches(list(missing.values())):
            rows_BD = encoder.encode(batch)
            done = [key for item in batch if (key := keys[item]) is not None]
            known.add(done, rows_BD)
            vectors |= dict(zip(done, rows_BD, strict=True))
            progress.advance(len(batch))
        encoded = processes.total(len(missing))
        rate = progress.rate * len(wanted) / max(1, len(own))
        if not processes.is_first():
            return Embedded(np.empty((0, 0), np.float32), encoded, len(wanted) - encoded, rate, known.size)
        if processes.count() > 1:
            vectors = known.find(wanted)
        size = known.size
    zeros_D = np.zeros_like(vectors[wanted[0]])
    embeddings_ND = np.stack([zeros_D if key is None else vectors[key] for key in keys])
    return Embedded(embeddings_ND, encoded, len(wanted) - encoded, rate, size)


def _is_own(key: bytes) -> bool:
    return int.from_bytes(key[:8], "big") % processes.count() == processes.rank()


@contextmanager
def _shared(name: str, about: str) -> Iterator[cache.Cache]:
    """The cache, opened by the first process before the others: only one can make its file."""
    if not processes.on_one_machine():
        raise MolarError(
            "embed_items runs on the processes of one machine, which share a cache: launch it on one "
            "(finetune_mirm alone may use several)"
        )
    if not processes.is_first():
        processes.meet()
    with cache.opened(name, about) as known:
        if processes.is_first():
            processes.meet()
        yield known


def packed(order: Iterable[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Items in the given order, longest first, about `batch_tokens` padded tokens a batch."""
    batch: list[int] = []
    for item in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
