"""Every item once: the loop that all encoders share, known vectors from the cache.

Promise: items come in batches sorted by length, longest first, so that batches hold little padding and one too large
for memory fails at once. Batches are laid out over all items, known ones included, so that a killed and continued run
computes the very batches, hence the very bits, of an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.mirm import cache
from pipeline.progress import bar


@dataclass(frozen=True)
class Embedded:
    embeddings_ND: np.ndarray  # float32, in item_idx order
    encoded: int
    from_cache: int
    rate: float  # items per second, known ones included


class ItemEncoder(Protocol):
    """What turns items into vectors."""

    def key(self, item: int) -> bytes | None:
        """What the item's vector depends on, besides the model. None: it has nothing to encode, and gets zeros."""

    def batches(self, batch_tokens: int) -> Iterable[list[int]]:
        """Every item that has a key, in one batch each."""

    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D)."""


def embed_once(encoder: ItemEncoder, name: str, num_items: int, batch_tokens: int) -> Embedded:
    """Embed all items (at least one has a key); `name` is the cache's, see `cache.scope`."""
    keys = [encoder.key(item) for item in range(num_items)]
    wanted = [key for key in keys if key is not None]
    with cache.opened(name) as known, bar("embed items", len(wanted), "items") as progress:
        vectors = known.find(wanted)
        encoded = 0
        for batch in encoder.batches(batch_tokens):
            # An item twice in the catalogue has one key and needs one vector.
            new = {key: item for item in batch if (key := keys[item]) is not None and key not in vectors}
            if new:
                rows_BD = encoder.encode(list(new.values()))
                known.add(list(new), rows_BD)
                vectors |= dict(zip(new, rows_BD, strict=True))
                encoded += len(new)
            progress.advance(len(batch))
    zeros_D = np.zeros_like(vectors[wanted[0]])
    embeddings_ND = np.stack([zeros_D if key is None else vectors[key] for key in keys])
    return Embedded(embeddings_ND, encoded, len(wanted) - encoded, progress.rate)


def packed(
    order: Iterable[int], lengths: Sequence[int], batch_tokens: int, apart: Sequence[Any] | None = None
) -> Iterator[list[int]]:
    """Items in the given order, longest first, about `batch_tokens` padded tokens a batch.

    `apart`, by item: only items of one value share a batch.
    """
    batch: list[int] = []
    for item in order:
        full = batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens
        if batch and (full or (apart is not None and apart[item] != apart[batch[0]])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
