"""Delimited files and typed columns, with the row number of everything that cannot be read.

The clean path is Arrow's parallel CSV reader; only a file with a malformed line is read a second time, slowly.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.errors import MolarError

WHOLE = r"^-?[0-9]{1,18}$"  # any int64 that a clock shows; 19 digits might overflow
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


def read_interactions(
    path: Path,
    columns: tuple[str, str, str, str | None],
    quarantine: Quarantine,
    *,
    delimiter: str = ",",
    names: list[str] | None = None,
) -> tuple[Interactions, int]:
    """The interactions of a delimited UTF-8 file, and how many rows were read, quarantined ones included.

    `columns` names user, item, timestamp and rating (None: there is none); `names=None` takes the columns' names from
    a header. Raises MolarError if the file is empty, not UTF-8, or lacks a named column.
    """
    table, row, rows_read = read_delimited(path, path.read_bytes(), quarantine, delimiter=delimiter, names=names)
    for name in columns:
        if name is not None and name not in table.column_names:
            raise MolarError(f"{path} has no column '{name}' (it has {', '.join(table.column_names)})")
    return interactions(table, row, path.name, columns, quarantine), rows_read


def read_delimited(
    path: Path, content: bytes, quarantine: Quarantine, *, delimiter: str, names: list[str] | None
) -> tuple[pa.Table, np.ndarray, int]:
    """Parse UTF-8 `content` into string columns; `names=None` takes them from a header (and allows CSV quotes).

    Returns the table, the int64 row number of each of its rows, and how many rows were read in all: lines with
    the wrong number of fields are quarantined, lines without any value are nothing.
    Raises MolarError if the file is empty or not UTF-8.
    """
    header = names is None
    skipped: list[int] = []  # rows missing from the table

    def on_invalid(line: csv.InvalidRow) -> str:
        skipped.append(line.number)
        quarantine.add(path.name, line.number, "wrong number of fields", line.text)
        return "skip"

    def parse(tolerant: bool) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(column_names=names, use_threads=not tolerant),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if header else False,
                newlines_in_values=header,
                ignore_empty_lines=False,  # or every later row number would be wrong
                invalid_row_handler=on_invalid if tolerant else None,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names or _header(path, content, delimiter), pa.string())
            ),
        )

    try:
        try:
            table = parse(tolerant=False)
        except pa.ArrowInvalid:
            table = parse(tolerant=True)  # row numbers are known to the serial reader only
    except pa.ArrowInvalid as error:
        raise MolarError(f"{path} cannot be read ({str(error).splitlines()[0]}): save it as UTF-8 text") from None
    row = np.arange(table.num_rows + len(skipped), dtype=np.int64) + (2 if header else 1)
    row = row[~np.isin(row, skipped)]
    written = np.logical_or.reduce([_filled(column) for column in table.columns])
    if not written.all():
        table, row = table.filter(pa.array(written)), row[written]
    return table, row, table.num_rows + len(skipped)


def _header(path: Path, content: bytes, delimiter: str) -> list[str]:
    if not content.strip():
        raise MolarError(f"{path} is empty: it needs a header line and rows")
    first = content[: content.find(b"\n") + 1] or content
    options = csv.ParseOptions(delimiter=delimiter)
    return csv.read_csv(io.BytesIO(first), parse_options=options).column_names


def interactions(
    table: pa.Table, row: np.ndarray, file: str, columns: tuple[str, str, str, str | None], quarantine: Quarantine
) -> Interactions:
    """Type the columns (user, item, timestamp, rating or None) and quarantine the rows that do not fit."""
    user_name, item_name, time_name, rating_name = columns
    user, item = as_text(table[user_name], file), as_text(table[item_name], file)
    timestamp, is_time = _whole_numbers(table[time_name])
    checks = [
        (_filled(user), "user is empty", table[user_name]),
        (_filled(item), "item is empty", table[item_name]),
        (is_time, "timestamp is not a whole number", table[time_name]),
    ]
    rating = None
    if rating_name is not None:
        rating, is_number = _numbers(table[rating_name])
        checks.append((is_number, "rating is not a number", table[rating_name]))
    good = np.ones(table.num_rows, dtype=np.bool_)
    for fits, reason, column in checks:
        bad = good & ~fits
        if bad.any():
            quarantine.add_rows(file, row[bad], reason, column.filter(pa.array(bad)).to_pylist())
        good &= fits
    user_code, user_ids = _codes(user.filter(pa.array(good)))
    item_code, item_ids = _codes(item.filter(pa.array(good)))
    return Interactions(
        user=user_code,
        item=item_code,
        timestamp=timestamp[good],
        rating=None if rating is None else rating[good],
        row=row[good],
        user_ids=user_ids,
        item_ids=item_ids,
    )


def as_text(column: pa.ChunkedArray, file: str) -> pa.ChunkedArray:
    """A column as strings. Raises MolarError for types without a plain text form (lists, structs)."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise MolarError(f"{file}: a column of type {column.type} cannot be read: store it as text") from None


def _filled(text: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(pc.greater(pc.binary_length(text), 0), False).to_numpy()


def _codes(text: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """int32 codes and the distinct values they stand for, in order of first appearance."""
    encoded = text.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy().astype(np.int32), encoded.dictionary.to_pylist()


def _whole_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """int64 values and a mask of those that are whole numbers; instants count in their own unit."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        fits = pc.fill_null(pc.match_substring_regex(column, WHOLE), False)
        return pc.if_else(fits, column, "0").cast(pa.int64()).to_numpy(), fits.to_numpy()
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_floating(column.type):
        value = pc.fill_null(column, float("nan")).to_numpy()
        fits = np.isfinite(value) & (np.floor(value) == value) & (np.abs(value) < 1e18)
        return np.where(fits, value, 0).astype(np.int64), fits
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(), pc.is_valid(column).to_numpy()


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """float64 values and a mask of those that are finite numbers."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.if_else(pc.match_substring_regex(column, NUMBER), column, None)
    value = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return value, np.isfinite(value)
