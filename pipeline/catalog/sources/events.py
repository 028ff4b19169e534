"""Interactions of any size: from a delimited file, or from a table in memory, to flat arrays and two id lists.

A file is read in blocks and its ids become codes block by block, so that memory holds some twenty bytes a row and
each id once, never the text. Arrow first types the columns as it parses; a file with anything wrong in it is read a
second time, as text, to say which row and why. Both ways give the same arrays for the rows that are right.

Quarantined rows carry their number: 1 for a file's first record, a header included; a blank line counts in the
numbering and is no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.rows import (
    as_text,
    damaged,
    filled,
    header_of,
    numbers,
    require_utf8,
    unreadable,
    whole_numbers,
)
from pipeline.errors import MolarError

Columns = tuple[str, str, str, str | None]  # names of user, item, timestamp and rating (None: there is none)

BATCH_ROWS = 1 << 18  # of a Parquet file read at once
BLOCK_BYTES = 1 << 24  # of a file parsed at once: few enough dictionaries to unite, small beside the result
CODES = pa.dictionary(pa.int32(), pa.string())
LARGEST_TIME = 10**18  # as `whole_numbers` takes them: 18 digits


def read_interactions(
    path: Path, columns: Columns, quarantine: Quarantine, *, delimiter: str = ",", names: list[str] | None = None
) -> tuple[Interactions, int]:
    """The interactions of a delimited UTF-8 file, and how many rows were read, quarantined ones included.

    `names=None` takes the columns' names from a header (and allows CSV quotes). The delimiter may be '::'.
    Raises MolarError if the file is empty, not UTF-8, lacks a named column, or holds a TAB beside '::'.
    """
    present = names or header_of(path, delimiter)
    for name in columns:
        if name is not None and name not in present:
            raise MolarError(f"{path} has no column '{name}' (it has {', '.join(present)})")
        if name is not None and present.count(name) > 1:
            raise MolarError(f"{path} has more than one column '{name}': rename all but one")
    clean = _read_clean(path, columns, delimiter, names)
    return (clean, len(clean)) if clean is not None else _read_carefully(path, columns, quarantine, delimiter, names)


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


def of_table(table: pa.Table, row: np.ndarray, file: str, columns: Columns, quarantine: Quarantine) -> Interactions:
    """Type the columns of a table and quarantine the rows that do not fit; `row` (int64) numbers its rows."""
    collected = Collector(file, columns)
    collected.add(table)
    return collected.finish(row, quarantine)


def _read_clean(path: Path, columns: Columns, delimiter: str, names: list[str] | None) -> Interactions | None:
    """All rows, typed by Arrow while it parses; None if any row is not right."""
    user, item, time, rating = columns
    kinds = {user: CODES, item: CODES, time: pa.int64()} | ({rating: pa.float64()} if rating else {})
    try:
        table = csv.read_csv(
            _opened(path, delimiter),
            read_options=csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
            parse_options=csv.ParseOptions(
                delimiter=_one_character(delimiter), quote_char=False if names else '"', ignore_empty_lines=False
            ),
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
    row = numbered(len(timestamp), 1 if names else 2)
    return Interactions(user_code, item_code, timestamp, ratings, row, user_ids, item_ids)


def _read_carefully(
    path: Path, columns: Columns, quarantine: Quarantine, delimiter: str, names: list[str] | None
) -> tuple[Interactions, int]:
    """The same as text, block by block, so that whatever is wrong can be named."""
    skipped: list[int] = []  # numbers of the rows with too few or too many fields

    def on_invalid(line: csv.InvalidRow) -> str:
        skipped.append(line.number)
        quarantine.add(path.name, line.number, "wrong number of fields", line.text)
        return "skip"

    with path.open("rb") as file:
        require_utf8(path, file)
    collected = Collector(path.name, columns)
    texts = dict.fromkeys(names or header_of(path, delimiter), pa.string())
    try:
        with csv.open_csv(
            _opened(path, delimiter),
            # serial: row numbers are known to that reader only
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=BLOCK_BYTES),
            parse_options=csv.ParseOptions(
                delimiter=_one_character(delimiter),
                quote_char=False if names else '"',
                newlines_in_values=names is None,
                ignore_empty_lines=False,  # or every later row number would be wrong
                invalid_row_handler=on_invalid,
            ),
            convert_options=csv.ConvertOptions(column_types=texts),
        ) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                collected.add(table, np.logical_or.reduce([filled(column) for column in table.columns]))
    except pa.ArrowInvalid as error:
        raise unreadable(path, error) from None
    row = np.arange(collected.seen + len(skipped), dtype=np.int64) + (1 if names else 2)
    row = row[~np.isin(row, skipped)]
    return collected.finish(row, quarantine), collected.seen - collected.blank + len(skipped)


def _one_character(delimiter: str) -> str:
    return "\t" if delimiter == "::" else delimiter


def _opened(path: Path, delimiter: str) -> pa.NativeFile:
    """The file as Arrow can split it: by one character, so that every '::' becomes a TAB on the way."""
    if delimiter != "::":
        return pa.input_stream(str(path))
    held = b""  # a colon at the end of a piece, whose twin may open the next

    def with_tabs(piece: pa.Buffer) -> bytes:
        nonlocal held
        content = held + piece.to_pybytes()
        if b"\t" in content:
            raise MolarError(f"{path} holds a TAB: its fields are separated by '::' alone, unpack it again")
        held = b":" * ((len(content) - len(content.rstrip(b":"))) % 2)
        return content[: len(content) - len(held)].replace(b"::", b"\t")

    return pa.TransformInputStream(pa.input_stream(str(path)), with_tabs)


class Collector:
    """Takes tables of text or typed columns one after another; `finish` gives all their good rows at once."""

    def __init__(self, file: str, columns: Columns) -> None:
        self._file, self._columns = file, columns
        self.seen = self.blank = 0  # rows taken in, and those of them without any value
        self._codes: tuple[list[pa.Array], list[pa.Array]] = ([], [])
        self._timestamps: list[np.ndarray] = []
        self._ratings: list[np.ndarray] = []
        self._kept: list[np.ndarray] = []  # places of the good rows among all that were seen
        self._bad: list[tuple[np.ndarray, str, list[object]]] = []  # places, reason, what stood there

    def add(self, table: pa.Table, written: np.ndarray | None = None) -> None:
        """One more block of rows; those that are not `written` (bool, None: all are) are blank lines, hence nothing."""
        user_name, item_name, time_name, rating_name = self._columns
        user, item = as_text(table[user_name], self._file), as_text(table[item_name], self._file)
        timestamp, is_time = whole_numbers(table[time_name])
        checks = [
            (filled(user), "user is empty", table[user_name]),
            (filled(item), "item is empty", table[item_name]),
            (is_time, "timestamp is not a whole number", table[time_name]),
        ]
        rating = None
        if rating_name is not None:
            rating, is_number = numbers(table[rating_name])
            checks.append((is_number, "rating is not a number", table[rating_name]))
        good = np.ones(table.num_rows, np.bool_) if written is None else written
        self.blank += int((~good).sum())
        for fits, reason, column in checks:
            bad = good & ~fits
            if bad.any():
                self._bad.append((np.flatnonzero(bad) + self.seen, reason, column.filter(pa.array(bad)).to_pylist()))
            good = good & fits
        for codes, text in zip(self._codes, (user, item), strict=True):
            codes.extend(text.filter(pa.array(good)).dictionary_encode().chunks)
        self._timestamps.append(timestamp[good])
        if rating is not None:
            self._ratings.append(rating[good])
        self._kept.append(np.flatnonzero(good) + self.seen)
        self.seen += table.num_rows

    def finish(self, row: np.ndarray, quarantine: Quarantine) -> Interactions:
        """`row` (int64) numbers everything that was seen; the bad rows go into quarantine under their number."""
        for places, reason, values in self._bad:
            quarantine.add_rows(self._file, row[places], reason, values)
        (user, user_ids), (item, item_ids) = (united(codes) for codes in self._codes)
        return Interactions(
            user=user,
            item=item,
            timestamp=np.concatenate([np.zeros(0, np.int64), *self._timestamps]),
            rating=np.concatenate([np.zeros(0), *self._ratings]) if self._columns[3] else None,
            row=row[np.concatenate([np.zeros(0, np.int64), *self._kept])],
            user_ids=user_ids,
            item_ids=item_ids,
        )


def numbered(rows: int, first: int) -> np.ndarray:
    """`first`, `first` + 1, ...: int32 wherever that holds them, for there are as many as interactions."""
    return np.arange(first, first + rows, dtype=np.int32 if first + rows < 1 << 31 else np.int64)


def united(chunks: Sequence[pa.DictionaryArray]) -> tuple[np.ndarray, list[str]]:
    """int32 codes of dictionary-encoded chunks and the distinct values they stand for, by first appearance."""
    whole = pa.chunked_array(chunks, CODES).unify_dictionaries()
    if not whole.num_chunks:
        return np.zeros(0, np.int32), []
    return np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks]), whole.chunk(0).dictionary.to_pylist()
