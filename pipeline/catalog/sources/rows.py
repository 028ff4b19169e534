"""Delimited tables as text, with the row number of every line that cannot be read, and columns of text as numbers.

Item tables are read this way, whole; interactions, which may be a thousand times as many, by events.py.
The clean path is Arrow's parallel CSV reader; only a file with a malformed line is read a second time, slowly.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources.gzipped import intact, opened
from pipeline.errors import MolarError

# Both as Arrow's own parser takes them, spaces around them included, so that the fast way of reading a file
# (events.py) and the careful one agree on every value.
WHOLE = r"^(-?[0-9]{1,18}|0[xX][0-9a-fA-F]{1,14})$"  # any int64 that a clock shows; 19 digits might overflow
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


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
                column_types=dict.fromkeys(names or _names_in(content, path, delimiter), pa.string())
            ),
        )

    try:
        try:
            table = parse(tolerant=False)
        except pa.ArrowInvalid:
            require_utf8(path, io.BytesIO(content))
            table = parse(tolerant=True)  # row numbers are known to the serial reader only
    except pa.ArrowInvalid as error:
        raise unreadable(path, error) from None
    row = np.arange(table.num_rows + len(skipped), dtype=np.int64) + (2 if header else 1)
    row = row[~np.isin(row, skipped)]
    written = np.logical_or.reduce([filled(column) for column in table.columns])
    if not written.all():
        table, row = table.filter(pa.array(written)), row[written]
    return table, row, table.num_rows + len(skipped)


def header_of(path: Path, delimiter: str) -> list[str]:
    """Column names of a delimited file. Raises MolarError if the file is empty."""
    with intact(path), opened(path) as file:
        first = file.readline()
        return _names_in(first if first.strip() else first + file.read(), path, delimiter)


def _names_in(content: bytes, path: Path, delimiter: str) -> list[str]:
    """Column names in the first line of `content`."""
    if not content.strip():
        raise MolarError(f"{path} is empty: it needs a header line and rows")
    first = content[: content.find(b"\n") + 1] or content
    try:
        return csv.read_csv(io.BytesIO(first), parse_options=csv.ParseOptions(delimiter=delimiter)).column_names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def require_utf8(path: Path, file: BinaryIO) -> None:
    """Raise MolarError if the open file holds anything but UTF-8: Arrow cannot hand over a malformed row of it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block := file.read(1 << 20):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: pa.ArrowInvalid | UnicodeDecodeError) -> MolarError:
    """What to say of a text file that Arrow cannot read at all: nearly always one that is not UTF-8."""
    return MolarError(f"{path} cannot be read ({str(error).splitlines()[0]}): save it as UTF-8 text")


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Whatever Arrow says of a Parquet file that it cannot read becomes one MolarError."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MolarError(f"{path} cannot be read ({reason}): write it again as Parquet") from None


def as_text(column: pa.ChunkedArray, file: str) -> pa.ChunkedArray:
    """A column as strings. Raises MolarError for types without a plain text form (lists, structs)."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise MolarError(f"{file}: a column of type {column.type} cannot be read: store it as text") from None


def filled(text: pa.ChunkedArray) -> np.ndarray:
    """bool: where a column of text holds at least one character."""
    return pc.fill_null(pc.greater(pc.binary_length(text), 0), False).to_numpy()


def whole_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """int64 values and a mask of those that are whole numbers, `5.0` among them; instants count in their own unit."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.replace_substring_regex(pc.ascii_trim_whitespace(column), r"^(-?[0-9]+)\.0*$", r"\1")
        fits = pc.fill_null(pc.match_substring_regex(column, WHOLE), False)
        return pc.if_else(fits, column, "0").cast(pa.int64()).to_numpy(), fits.to_numpy()
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_floating(column.type):
        value = pc.fill_null(column, float("nan")).to_numpy()
        fits = np.isfinite(value) & (np.floor(value) == value) & (np.abs(value) < 1e18)
        return np.where(fits, value, 0).astype(np.int64), fits
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(), pc.is_valid(column).to_numpy()


def numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """float64 values and a mask of those that are finite numbers."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.ascii_trim_whitespace(column)
        column = pc.if_else(pc.match_substring_regex(column, NUMBER), column, None)
    value = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return value, np.isfinite(value)
