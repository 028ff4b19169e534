"""Raw source -> `data/catalog/`: the one function behind the stage `ingest`.

    items/part-*.parquet   item_idx int32, item_id, title, text, caption, summary, attributes list<struct<key, value>>,
                           image struct<bytes: binary, path: string> (the Hugging Face `datasets` convention)
    sequences.parquet      user_id, items list<int32>, timestamps list<int64>, train_end int32, valid_end int32;
                           schema metadata num_items, num_warm
    cold.parquet           user_idx int32, end int32, item_idx int32
    quarantine.parquet     source, row, reason, value
    summary.json           the counts that the stage prints
    plots/*.tsv            what `dvc plots show` draws of them: see plots.py

`item_idx` numbers warm items by first appearance in time, then cold ones, then (if kept) items that nobody
interacted with, both in the order of the item table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import artifacts
from pipeline.catalog import images, plots, published, sources, split, summary
from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.catalog.filtering import Steps, filtered
from pipeline.catalog.order import by_first_appearance
from pipeline.catalog.quarantine import IMAGES, Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.errors import MolarError
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


@dataclass(frozen=True, eq=False)
class Selected:
    """What the filters left: items in `item_idx` order, sequences over them, and the cold questions."""

    items: list[RawItem]
    sequences: Sequences
    cold: Queries
    steps: Steps


def build(params: Ingest, out: Path) -> summary.Summary:
    """Fill the directory `out` from the raw data that the params name.

    Raises MolarError: no such path, file or column; too much in quarantine; nothing left after a filter.
    """
    quarantine = Quarantine()
    raw = sources.read(params, quarantine)
    known = _of_known_items(raw, quarantine)
    cold_ids = _cold_ids(raw, quarantine) if params.cold_items == "listed" else []
    for file, read in raw.rows_read.items():
        quarantine.check(raw.root, file, read, params.max_quarantine)
    selected = select(raw, known, cold_ids, params)
    has_image = _write_items(selected.items, raw, params, quarantine, out / "items")
    pictures = sum(item.image is not None for item in selected.items)
    quarantine.check(raw.root, IMAGES, pictures, params.max_quarantine)
    _write_sequences(selected.sequences, out / "sequences.parquet")
    cold = selected.cold
    _write(pa.table({"user_idx": cold.user, "end": cold.end, "item_idx": cold.target}), out / "cold.parquet")
    _write(quarantine.table(), out / "quarantine.parquet")
    facts = summary.summarise(raw, selected.items, has_image, selected.sequences, cold, selected.steps, quarantine)
    if params.published is not None:
        facts["published"] = published.compared(params.published, raw, selected.sequences)
    artifacts.write_json(out / "summary.json", facts)
    plots.write(out / "plots", selected.items, has_image, selected.sequences, out / "items")
    artifacts.describe(
        out,
        items=len(selected.items),
        users=len(selected.sequences),
        interactions=len(selected.sequences.items),
        cold_queries=len(cold),
    )
    return facts


def select(raw: Raw, known: Interactions, cold_ids: list[str], params: Ingest) -> Selected:
    """Filters, numbering and split, without pictures. `known`: interactions whose items are in the item table."""
    steps = Steps()
    steps.rows.append(("rows read", raw.rows_read[raw.interactions_file], 0, 0))
    steps.note("readable", known)
    if not len(known):
        raise MolarError(f"{raw.root / raw.interactions_file} holds no usable interaction: add rows")
    cold_set = set(cold_ids)
    is_cold_item = np.array([item_id in cold_set for item_id in known.item_ids], dtype=np.bool_)
    warm, cold = filtered(known, is_cold_item, params, steps)
    warm_order, item_number = by_first_appearance(warm.item, len(known.item_ids))
    by_id = {item.item_id: item for item in raw.items}
    numbered = [by_id[known.item_ids[code]] for code in warm_order]
    numbered += [item for item in raw.items if item.item_id in cold_set]
    if params.keep_unseen_items:
        interacted = {known.item_ids[code] for code in np.unique(known.item)}
        numbered += [item for item in raw.items if item.item_id not in interacted and item.item_id not in cold_set]
    place = {item.item_id: index for index, item in enumerate(numbered)}
    for code in np.flatnonzero(is_cold_item):
        item_number[code] = place[known.item_ids[code]]
    sequences, user_number = split.leave_one_out(warm, item_number, len(numbered))
    queries, asked = split.cold_queries(cold, warm, user_number, item_number)
    if len(cold):
        steps.note("cold choices that can be asked", cold.at(asked))
    return Selected(numbered, sequences, queries, steps)


def _of_known_items(raw: Raw, quarantine: Quarantine) -> Interactions:
    """The interactions whose item has a row in the item table; the others are quarantined."""
    ids = {item.item_id for item in raw.items}
    events = raw.interactions
    is_known_code = np.array([item_id in ids for item_id in events.item_ids], dtype=np.bool_)
    known = is_known_code[events.item] if len(events) else np.zeros(0, dtype=np.bool_)
    for position in np.flatnonzero(~known):
        value = events.item_ids[events.item[position]]
        quarantine.add(raw.interactions_file, events.row[position], f"item is not in {raw.items_file}", value)
    return events.at(known)


def _cold_ids(raw: Raw, quarantine: Quarantine) -> list[str]:
    """The ids in cold_items.txt that have a row in the item table; the others are quarantined."""
    path = raw.root / "cold_items.txt"
    if not path.is_file():
        raise MolarError(f"{path} not found: write one item id a line, or set ingest.cold_items to 'none'")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MolarError(f"{path} is not UTF-8: save it as UTF-8 text") from None
    listed = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    ids = {item.item_id for item in raw.items}
    for number, item_id in listed:
        if item_id not in ids:
            quarantine.add(path.name, number, f"item is not in {raw.items_file}", item_id)
    raw.rows_read[path.name] = len(listed)
    return [item_id for _, item_id in listed if item_id in ids]


def _write_items(items: list[RawItem], raw: Raw, params: Ingest, quarantine: Quarantine, folder: Path) -> np.ndarray:
    """Item table in parts of PART rows, pictures encoded on the way. Returns bool (N,): which have a picture."""
    folder.mkdir()
    has_image = np.zeros(len(items), dtype=np.bool_)
    with bar("pack items", total=len(items), unit="items") as progress:
        for part, start in enumerate(range(0, len(items), PART)):
            path = folder / f"part-{part:05d}.parquet"
            with pq.ParquetWriter(path, ITEMS, compression="zstd") as writer:
                stop = min(start + PART, len(items))
                for first in range(start, stop, ROW_GROUP):
                    group = items[first : min(first + ROW_GROUP, stop)]
                    pictures = [_picture(item, raw, params, quarantine) for item in group]
                    has_image[first : first + len(group)] = [picture is not None for picture in pictures]
                    index = np.arange(first, first + len(group), dtype=np.int32)
                    writer.write_table(_item_table(index, group, pictures), row_group_size=ROW_GROUP)
                    progress.advance(len(group))
    return has_image


def _item_table(index: np.ndarray, items: list[RawItem], pictures: list[dict[str, bytes | str] | None]) -> pa.Table:
    columns = [pa.array(index)]
    columns += [pa.array([getattr(item, name) for item in items], pa.string()) for name in WORDS]
    pairs = [[{"key": key, "value": value} for key, value in item.attributes.items()] for item in items]
    columns.append(pa.array(pairs, ITEMS.field("attributes").type))
    columns.append(pa.array(pictures, IMAGE))
    return pa.table(columns, schema=ITEMS)


def _picture(item: RawItem, raw: Raw, params: Ingest, quarantine: Quarantine) -> dict[str, bytes | str] | None:
    """The encoded picture of an item; None if it has none or an unusable one, which is quarantined."""
    if item.image is None:
        return None
    try:
        path = images.locate(raw.root, item.image)
        return {"bytes": images.encode(path, params.image_size, params.max_image_pixels), "path": item.image}
    except images.UnusableImageError as reason:
        quarantine.add(IMAGES, item.row, str(reason), item.image)
        return None


def _write_sequences(sequences: Sequences, path: Path) -> None:
    offsets = pa.array(sequences.offsets.astype(np.int32))  # 2^31 interactions would not fit in memory anyway
    table = pa.table(
        {
            "user_id": pa.array(sequences.user_ids, pa.string()),
            "items": pa.ListArray.from_arrays(offsets, sequences.items),
            "timestamps": pa.ListArray.from_arrays(offsets, sequences.timestamps),
            "train_end": sequences.train_end,
            "valid_end": sequences.valid_end,
        }
    )
    counts = {"num_items": str(sequences.num_items), "num_warm": str(sequences.num_warm)}
    _write(table.replace_schema_metadata(counts), path)


def _write(table: pa.Table, path: Path) -> None:
    """zstd Parquet; equal tables give equal bytes (Arrow writes neither time nor place)."""
    pq.write_table(table, path, compression="zstd")
