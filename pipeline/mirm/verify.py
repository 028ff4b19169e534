"""Embeddings that stand, held against vectors computed anew: `embed_items --verify`.

Promise: nothing is written, no cache is read and no lock is taken. A seeded sample of items goes once more through
the MIRM, and each vector is compared with its row in the shards. The same processor and library versions give the very
numbers; what is allowed covers other devices and the shards' own dtype, and an item shown another text or picture
differs by far more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.errors import MolarError
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import Mirm
from pipeline.params.embed_items import EmbedItems

# Shares of a vector's largest value. From kernel to kernel float32 differs by 1e-6 and bfloat16 by 1e-2; float16 shards
# round by 2 ** -11.
OF_PRECISION = {"float32": 1e-4, "bfloat16": 5e-2}
OF_SHARDS = {"float32": 0.0, "float16": 1e-3}


@dataclass(frozen=True)
class Verified:
    items: int
    largest: float  # absolute difference of any number
    cosine: float  # the least of any item


def verify(
    mirm: Mirm, items: Items, params: EmbedItems, stored: Artifact, count: int, device: torch.device, seed: int = 0
) -> Verified:
    """Compare `count` items (all, if there are fewer) of `data/embeddings` with vectors computed anew.

    Raises MolarError: the catalogue has another number of items, a shard is missing or corrupted, or an item differs
    by more than rounding (the first one, by name, with its shard).
    """
    if stored.facts["items"] != len(items):
        raise MolarError(
            f"{stored.directory} holds {stored.facts['items']:,} items, the catalogue {len(items):,}: "
            "run `dvc repro embed_items`"
        )
    sample = np.sort(np.random.default_rng(seed).choice(len(items), min(count, len(items)), replace=False))
    encoder = Encoder(mirm, items, params.modality, device, params.batch_tokens)
    anew = {item: row_D for batch in encoder.batches(sample.tolist()) for item, row_D in _encoded(encoder, batch)}
    allowed = OF_PRECISION[params.precision] + OF_SHARDS[params.dtype]
    largest, cosine = 0.0, 1.0
    for item, stored_D, shard in _rows(stored, sample):
        anew_D = anew[item]
        differs = float(np.abs(anew_D - stored_D).max())
        if not differs <= allowed * float(np.abs(anew_D).max()):  # NaN differs
            raise MolarError(
                f"{stored.directory / shard}: item {items.item_ids[item]!r} (item_idx {item}) differs by {differs:.2g} "
                f"from what its text and picture give: run `molar cache --prune-days 0`, then `dvc repro --force "
                f"--single-item {stored.stage}`"
            )
        largest = max(largest, differs)
        cosine = min(cosine, float(anew_D @ stored_D / (np.linalg.norm(anew_D) * np.linalg.norm(stored_D))))
    return Verified(len(sample), largest, cosine)


def _encoded(encoder: Encoder, batch: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    return zip(batch, encoder.encode(batch), strict=True)


def _rows(stored: Artifact, sample: np.ndarray) -> Iterator[tuple[int, np.ndarray, str]]:
    """(item, float32 (D,), shard) of the sample, in its order, one shard in memory at a time."""
    for shard in (name for name in stored.names if name.startswith("shard-")):
        table = pq.read_table(stored.file(shard), memory_map=True)
        wanted = table.filter(pc.is_in(table["item_idx"], pa.array(sample, pa.int32())))
        for item, vector in zip(wanted["item_idx"].to_pylist(), wanted["embedding"], strict=True):
            yield item, np.asarray(vector.values.to_numpy(), np.float32), shard
