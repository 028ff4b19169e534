"""Items -> `items/part-*.parquet`: words and encoded pictures, row group by row group in `item_idx` order.

Pictures come from files, an archive or a column (places.py, archive.py, picture_column.py) and are encoded by several
processes (workers.py). Neither the bytes written nor the order of the quarantine depends on how many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog.archive import Archive
from pipeline.catalog.images import Small
from pipeline.catalog.picture_column import PictureColumn
from pipeline.catalog.places import Bounds, File, Found
from pipeline.catalog.quarantine import IMAGES, Quarantine
from pipeline.catalog.raw import Raw, RawItem
from pipeline.catalog.workers import BATCH, in_order
from pipeline.params.ingest import Ingest
from pipeline.progress import bar

ROW_GROUP = 64  # items; a reader of one picture reads its group, about a megabyte at 224 pixels
PART = 128 * ROW_GROUP
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WORDS = ("item_id", "title", "text", "caption", "summary")
ITEMS = pa.schema(
    [
        ("item_idx", pa.int32()),
        *((name, pa.string()) for name in WORDS),
        # no map: `datasets.load_dataset("parquet")` cannot open one
        ("attributes", pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))),
        ("image", IMAGE),
    ]
)


def write_items(
    items: list[RawItem], raw: Raw, params: Ingest, quarantine: Quarantine, folder: Path, processes: int
) -> np.ndarray:
    """Item table in parts of PART rows, pictures encoded on the way.

    Returns int32 (N,): longest side of each source picture in pixels, 0 where there is none.

    An unusable picture is quarantined and its item goes on without. Raises MolarError if a process dies.
    """
    folder.mkdir()
    side_N = np.zeros(len(items), dtype=np.int32)
    with (
        bar("pack items", total=len(items), unit="items") as progress,
        _finder(items, raw, folder.parent) as find,
        closing(_pictures(items, find, params, quarantine, processes)) as pictures,
    ):
        for part, start in enumerate(range(0, len(items), PART)):
            path = folder / f"part-{part:05d}.parquet"
            with pq.ParquetWriter(path, ITEMS, compression="zstd") as writer:
                stop = min(start + PART, len(items))
                for first in range(start, stop, ROW_GROUP):
                    group = items[first : min(first + ROW_GROUP, stop)]
                    shown = [next(pictures) for _ in group]
                    side_N[first : first + len(group)] = [small.source_side if small else 0 for small in shown]
                    index = np.arange(first, first + len(group), dtype=np.int32)
                    writer.write_table(_item_table(index, group, shown), row_group_size=ROW_GROUP)
                    progress.advance(len(group))
    return side_N


def _pictures(
    items: list[RawItem], find: Callable[[RawItem], Found], params: Ingest, quarantine: Quarantine, processes: int
) -> Generator[Small | None]:
    """The picture of each item; None if it has none or an unusable one, which is quarantined."""
    bounds = Bounds(params.image_size, params.max_image_pixels)
    batches = ([find(item) for item in items[i : i + BATCH]] for i in range(0, len(items), BATCH))
    with closing(in_order(batches, bounds, processes)) as results:
        for item, result in zip(items, chain.from_iterable(results), strict=True):
            if isinstance(result, str):
                quarantine.add(IMAGES, item.row, result, item.image)
            yield result if isinstance(result, Small) else None


@contextmanager
def _finder(items: list[RawItem], raw: Raw, scratch: Path) -> Iterator[Callable[[RawItem], Found]]:
    """How to find an item's picture; `scratch` is a folder for a while."""
    if isinstance(raw.pictures, PictureColumn):
        unpacked = scratch / ".pictures"
        try:
            places = raw.pictures.unpacked({item.row for item in items}, unpacked)
            yield lambda item: places.get(item.row)
        finally:
            unpacked.unlink(missing_ok=True)
    elif isinstance(raw.pictures, Archive):
        archive = raw.pictures
        yield lambda item: None if item.image is None else archive.find(item.image)
    else:
        yield lambda item: None if item.image is None else File(raw.root, item.image)


def _item_table(index: np.ndarray, items: list[RawItem], pictures: list[Small | None]) -> pa.Table:
    columns = [pa.array(index)]
    columns += [pa.array([getattr(item, name) for item in items], pa.string()) for name in WORDS]
    pairs = [[{"key": key, "value": value} for key, value in item.attributes.items()] for item in items]
    columns.append(pa.array(pairs, ITEMS.field("attributes").type))
    held = [
        {"bytes": small.content, "path": item.image} if small else None
        for item, small in zip(items, pictures, strict=True)
    ]
    columns.append(pa.array(held, IMAGE))
    return pa.table(columns, schema=ITEMS)
