"""The source `tables` as JSON lines: `interactions.jsonl` and `items.jsonl`, one object a line, columns by their keys.

Numbers and booleans become the text that Parquet's would (5.0 is 5, true is true); a list or an object becomes its
JSON, but as an id, time or rating it sends the line to quarantine. A key need not stand in every line.
"""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.collector import Collector, Columns
from pipeline.catalog.sources.json_lines import Record, records
from pipeline.catalog.sources.plain import readable
from pipeline.errors import MolarError
from pipeline.params.ingest import TablesColumns
from pipeline.progress import bar

BLOCK = 50_000  # lines that become arrays at once
MOST_KEYS = 1_000  # of an item table: each is a column of all items


def read_interactions(path: Path, columns: Columns, quarantine: Quarantine) -> tuple[Interactions, int, list[str]]:
    """The interactions, how many lines were read (quarantined ones included), and every key that stood in one."""
    collected = Collector(path.name, columns)
    names = [name for name in columns if name is not None]
    block: list[list[str | None]] = []
    lines = array("q")
    keys: dict[str, None] = {}
    read = 0

    def collect() -> None:
        texts = zip(*block, strict=True) if block else [()] * len(names)
        collected.add(pa.table({name: pa.array(text, pa.string()) for name, text in zip(names, texts, strict=True)}))
        progress.advance(len(block))
        block.clear()

    with bar(f"read {path.name}", unit="lines") as progress:
        for number, record in records(path, quarantine):
            read += 1
            if record is None:
                continue
            keys |= dict.fromkeys(record)
            nested = next((name for name in names if isinstance(record.get(name), list | dict)), None)
            if nested is not None:
                quarantine.add(path.name, number, f"'{nested}' is a list or an object", text_of(record[nested]))
                continue
            block.append([text_of(record.get(name)) for name in names])
            lines.append(number)
            if len(block) == BLOCK:
                collect()
        collect()
    _refuse_empty(path, read)
    return collected.finish(np.asarray(lines, dtype=np.int64), quarantine), read, list(keys)


def read_items(path: Path, columns: TablesColumns, quarantine: Quarantine) -> tuple[pa.Table, np.ndarray, int]:
    """A table of text with a column for each key, the line number of each row, and how many lines were read.

    Raises MolarError if there are too many keys.
    """
    rows: list[Record] = []
    lines = array("q")
    keys: dict[str, None] = {}
    read = 0
    for number, record in records(path, quarantine):
        read += 1
        if record is None:
            continue
        if isinstance(record.get(columns.id), list | dict):
            quarantine.add(path.name, number, f"'{columns.id}' is a list or an object", text_of(record[columns.id]))
            continue
        keys |= dict.fromkeys(record)
        if len(keys) > MOST_KEYS:
            raise MolarError(
                f"{path} holds more than {MOST_KEYS:,} different keys by line {number:,}, and each would be an "
                f"attribute of its own: put what varies into one object"
            )
        rows.append(record)
        lines.append(number)
    _refuse_empty(path, read)
    if not rows:  # quarantine says why
        keys = dict.fromkeys(name for name in columns.model_dump(exclude={"attributes"}).values() if name)
    table = pa.table({key: pa.array([text_of(row.get(key)) for row in rows], pa.string()) for key in keys})
    return table, np.asarray(lines, dtype=np.int64), read


def _refuse_empty(path: Path, read: int) -> None:
    if not read:
        raise MolarError(f"{path} is empty: it needs a JSON object a line")


def text_of(value: object) -> str | None:
    """A JSON value as text; None for what says nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return pa.scalar(value).cast(pa.string()).as_py()
    if isinstance(value, int):
        return str(value)
    try:
        return readable(json.dumps(value, ensure_ascii=False, default=str))  # a literal may hold a set, or bytes
    except (TypeError, ValueError, RecursionError):
        return None
