"""Interactions of any size: from a delimited file, or from a table in memory, to flat arrays and two id lists.

A file is read in blocks and its ids become codes block by block, so that memory holds some twenty bytes a row and
each id once, never the text. Arrow first types the columns as it parses; a file with anything wrong in it is read a
second time, as text, to say which row and why. Both ways give the same arrays for the rows that are right.

Quarantined rows carry their number: 1 for a file's first record, a header included; a blank line counts in the
numbering and is no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.collector import CODES, Collector, Columns, numbered, united
from pipeline.catalog.sources.gzipped import arrow_stream, intact, opened
from pipeline.catalog.sources.rows import damaged, filled, header_of, require_utf8, unreadable
from pipeline.errors import MolarError

BATCH_ROWS = 1 << 18  # of a Parquet file read at once
BLOCK_BYTES = 1 << 24  # of a file parsed at once: few enough dictionaries to unite, small beside the result
LARGEST_TIME = 10**18  # as `whole_numbers` takes them: 18 digits


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written."""

    delimiter: str = ","  # '::' is one
    names: list[str] | None = None  # of its columns; None: a header tells them, and values may be quoted as in CSV
    headed: bool = False  # `names` stand for those of a header

    @property
    def character(self) -> str:
        """The delimiter that Arrow is given."""
        return "\t" if self.delimiter == "::" else self.delimiter

    @property
    def first_row(self) -> int:
        """Number of the first row after a header."""
        return 1 if self.names and not self.headed else 2

    def read_options(self, *, use_threads: bool) -> csv.ReadOptions:
        return csv.ReadOptions(
            column_names=self.names, skip_rows=int(self.headed), use_threads=use_threads, block_size=BLOCK_BYTES
        )

    def parse_options(self, **more: Any) -> csv.ParseOptions:
        return csv.ParseOptions(
            delimiter=self.character,
            quote_char=False if self.names else '"',
            ignore_empty_lines=False,  # or every later row number would be wrong
            **more,
        )


PLAIN_CSV = Layout()


def read_interactions(
    path: Path, columns: Columns, quarantine: Quarantine, layout: Layout = PLAIN_CSV
) -> tuple[Interactions, int]:
    """The interactions of a delimited UTF-8 file, gzipped or not, and how many rows were read, quarantined included.

    Raises MolarError if the file is empty, not UTF-8, lacks a named column, or holds a TAB beside '::'.
    """
    present = layout.names or header_of(path, layout.delimiter)
    for name in columns:
        if name is not None and name not in present:
            raise MolarError(f"{path} has no column '{name}' (it has {', '.join(present)})")
        if name is not None and present.count(name) > 1:
            raise MolarError(f"{path} has more than one column '{name}': rename all but one")
    with intact(path):
        clean = _read_clean(path, columns, layout)
        return (clean, len(clean)) if clean is not None else _read_carefully(path, columns, quarantine, layout)


def read_parquet(path: Path, columns: Columns, quarantine: Quarantine) -> tuple[Interactions, int]:
    """The interactions of a Parquet file, and how many rows were read; batch by batch, so that no text piles up.

    Raises MolarError if the file is damaged. The named columns must be there.
    """
    collected = Collector(path.name, columns)
    named = list(dict.fromkeys(name for name in columns if name is not None))
    with damaged(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=named):
            batch.validate(full=True)  # Arrow reads what is not UTF-8 without a word
            collected.add(pa.Table.from_batches([batch]))
    return collected.finish(numbered(collected.seen, 1), quarantine), collected.seen


def _read_clean(path: Path, columns: Columns, layout: Layout) -> Interactions | None:
    """All rows, typed by Arrow while it parses; None if any row is not right."""
    user, item, time, rating = columns
    kinds = {user: CODES, item: CODES, time: pa.int64()} | ({rating: pa.float64()} if rating else {})
    try:
        table = csv.read_csv(
            _opened(path, layout.delimiter),
            read_options=layout.read_options(use_threads=True),
            parse_options=layout.parse_options(),
            convert_options=csv.ConvertOptions(column_types=kinds, include_columns=list(kinds)),
        )
    except pa.ArrowInvalid:  # a malformed row, an untyped value; a quoted value across the edge of a block
        return None
    if not table.num_rows or any(column.null_count for column in table.columns):
        return None
    columns_left = {name: table[name] for name in kinds}
    del table  # each column goes as soon as it is read: millions of rows should not be here twice
    pool = pa.default_memory_pool()
    pool.release_unused()  # the text of the blocks, which Arrow would keep for a next file
    user_code, user_ids = united(columns_left.pop(user).chunks)
    item_code, item_ids = united(columns_left.pop(item).chunks)
    timestamp = columns_left.pop(time).to_numpy()
    ratings = columns_left.pop(rating).to_numpy() if rating else None
    pool.release_unused()
    if max(abs(int(timestamp.min())), abs(int(timestamp.max()))) >= LARGEST_TIME or "" in user_ids or "" in item_ids:
        return None
    if ratings is not None and not np.isfinite(ratings).all():
        return None
    row = numbered(len(timestamp), layout.first_row)
    return Interactions(user_code, item_code, timestamp, ratings, row, user_ids, item_ids)


def _read_carefully(path: Path, columns: Columns, quarantine: Quarantine, layout: Layout) -> tuple[Interactions, int]:
    """The same as text, block by block, so that whatever is wrong can be named."""
    skipped: list[int] = []  # numbers of the rows with too few or too many fields

    def on_invalid(line: csv.InvalidRow) -> str:
        skipped.append(line.number)
        quarantine.add(path.name, line.number, "wrong number of fields", line.text)
        return "skip"

    with opened(path) as file:
        require_utf8(path, file)
    collected = Collector(path.name, columns)
    texts = dict.fromkeys(layout.names or header_of(path, layout.delimiter), pa.string())
    try:
        with csv.open_csv(
            _opened(path, layout.delimiter),
            read_options=layout.read_options(use_threads=False),  # row numbers are known to the serial reader only
            parse_options=layout.parse_options(newlines_in_values=layout.names is None, invalid_row_handler=on_invalid),
            convert_options=csv.ConvertOptions(column_types=texts),
        ) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                collected.add(table, np.logical_or.reduce([filled(column) for column in table.columns]))
    except pa.ArrowInvalid as error:
        raise unreadable(path, error) from None
    row = np.arange(collected.seen + len(skipped), dtype=np.int64) + layout.first_row
    row = row[~np.isin(row, skipped)]
    return collected.finish(row, quarantine), collected.seen - collected.blank + len(skipped)


def _opened(path: Path, delimiter: str) -> pa.NativeFile:
    """The file as Arrow can split it: by one character, so that every '::' becomes a TAB on the way."""
    if delimiter != "::":
        return arrow_stream(path)
    held = b""  # a colon at the end of a piece, whose twin may open the next

    def with_tabs(piece: pa.Buffer) -> bytes:
        nonlocal held
        content = held + piece.to_pybytes()
        if b"\t" in content:
            raise MolarError(f"{path} holds a TAB: its fields are separated by '::' alone, unpack it again")
        held = b":" * ((len(content) - len(content.rstrip(b":"))) % 2)
        return content[: len(content) - len(held)].replace(b"::", b"\t")

    return pa.TransformInputStream(arrow_stream(path), with_tabs)
