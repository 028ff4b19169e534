"""Every item once: the loop that all encoders share, known vectors from the cache.

Promise: what the cache knows is not computed; every batch is remembered as soon as it is done, so a killed run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.mirm import cache
from pipeline.progress import bar


@dataclass(frozen=True)
class Embedded:
    embeddings_ND: np.ndarray  # float32, in item_idx order
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
    """Embed all items (at least one has a key). `name` is the cache's (`cache.scope`), `about` says what is in it."""
    keys = [encoder.key(item) for item in range(num_items)]
    wanted = [key for key in keys if key is not None]
    with cache.opened(name, about) as known, bar("embed items", len(wanted), "items") as progress:
        vectors = known.find(wanted)
        # An item twice in the catalogue has one key and needs one vector.
        missing = {key: item for item, key in enumerate(keys) if key is not None and key not in vectors}
        progress.advance(len(wanted) - len(missing))
        for batch in encoder.batches(list(missing.values())):
            rows_BD = encoder.encode(batch)
            done = [key for item in batch if (key := keys[item]) is not None]
            known.add(done, rows_BD)
            vectors |= dict(zip(done, rows_BD, strict=True))
            progress.advance(len(batch))
        size = known.size
    zeros_D = np.zeros_like(vectors[wanted[0]])
    embeddings_ND = np.stack([zeros_D if key is None else vectors[key] for key in keys])
    return Embedded(embeddings_ND, len(missing), len(wanted) - len(missing), progress.rate, size)


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
