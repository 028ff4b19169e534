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
from pipeline.catalog import held_out, plots, published, sources, split, summary
from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.catalog.filtering import Steps, filtered
from pipeline.catalog.order import by_first_appearance
from pipeline.catalog.packing import write_items
from pipeline.catalog.quarantine import IMAGES, Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest


@dataclass(frozen=True, eq=False)
class Selected:
    """What the filters left: items in `item_idx` order, sequences over them, and the cold questions."""

    items: list[RawItem]
    sequences: Sequences
    cold: Queries
    steps: Steps
    moments: dict[str, int]  # when the parts of a split by time begin


def build(params: Ingest, out: Path, processes: int = 1) -> summary.Summary:
    """Fill the directory `out` from the raw data that the params name; `processes` encode its pictures.

    Raises MolarError: no such path, file or column; too much in quarantine; nothing left after a filter.
    """
    quarantine = Quarantine()
    raw = sources.read(params, quarantine)
    known = _of_known_items(raw, quarantine)
    cold_ids = held_out.item_ids(raw, params, quarantine)
    for file, read in raw.rows_read.items():
        quarantine.check(raw.root, file, read, params.max_quarantine)
    selected = select(raw, known, cold_ids, params)
    compared = None if params.published is None else published.compared(params.published, raw, selected.sequences)
    del known
    raw = raw.without_interactions()
    side_N = write_items(selected.items, raw, params, quarantine, out / "items", processes)
    has_image = side_N > 0
    pictures = int(has_image.sum()) + quarantine.count(IMAGES)
    quarantine.check(raw.root, IMAGES, pictures, params.max_quarantine)
    _write_sequences(selected.sequences, out / "sequences.parquet")
    cold = selected.cold
    _write(pa.table({"user_idx": cold.user, "end": cold.end, "item_idx": cold.target}), out / "cold.parquet")
    _write(quarantine.table(), out / "quarantine.parquet")
    facts = summary.summarise(raw, selected.items, has_image, selected.sequences, cold, selected.steps, quarantine)
    facts["split"] |= selected.moments
    if compared is not None:
        facts["published"] = compared
    artifacts.write_json(out / "summary.json", facts)
    plots.write(out / "plots", selected.items, side_N, selected.sequences)
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
    moments = None
    if params.split == "global_time":
        moments = split.moments(warm.timestamp, params)
        warm, cold = split.without_new_items(warm, cold, moments)
        steps.note(f"of items seen before {moments.validation}", warm)
    if params.cold_items == "drawn":
        cold_set = set()  # a drawn item that nobody chose is like any other that nobody chose
    cold_set |= {known.item_ids[code] for code in np.unique(cold.item)}
    warm_order, item_number = by_first_appearance(warm.item, len(known.item_ids))
    by_id = {item.item_id: item for item in raw.items}
    numbered = [by_id[known.item_ids[code]] for code in warm_order]
    numbered += [item for item in raw.items if item.item_id in cold_set]
    if params.keep_unseen_items:
        interacted = {known.item_ids[code] for code in np.unique(known.item)}
        numbered += [item for item in raw.items if item.item_id not in interacted and item.item_id not in cold_set]
    place = {item.item_id: index for index, item in enumerate(numbered)}
    for code in np.unique(cold.item):
        item_number[code] = place[known.item_ids[code]]
    if moments is None:
        sequences, user_number = split.leave_one_out(warm, item_number, len(numbered))
    else:
        sequences, user_number = split.global_time(warm, item_number, len(numbered), moments)
        split.refuse_unasked(sequences, params)
    queries, asked = split.cold_queries(cold, warm, user_number, item_number)
    if len(cold):
        steps.note("cold choices that can be asked", cold.at(asked))
    return Selected(numbered, sequences, queries, steps, {} if moments is None else moments.facts())


def _of_known_items(raw: Raw, quarantine: Quarantine) -> Interactions:
    """The interactions whose item has a row in the item table; the others are quarantined."""
    ids = {item.item_id for item in raw.items}
    events = raw.interactions
    is_known_code = np.array([item_id in ids for item_id in events.item_ids], dtype=np.bool_)
    known = is_known_code[events.item] if len(events) else np.zeros(0, dtype=np.bool_)
    values = [events.item_ids[code] for code in events.item[~known]]
    quarantine.add_rows(raw.interactions_file, events.row[~known], f"item is not in {raw.items_file}", values)
    return events.at(known)


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
