"""Pictures that lie in the item table itself: a column of bytes, or Hugging Face's struct<bytes, path>.

Items are packed in another order than the table's, and a picture inside Parquet cannot be read alone. So the ones
that are asked for are first written one after another into a single file, a few at a time, and read from there.
Meanwhile memory holds one page of the table, packed and unpacked: 1,024 pictures where Arrow wrote it by default, fewer
in the small row groups of `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog.images import MAX_BYTES, TOO_LARGE
from pipeline.catalog.places import Member
from pipeline.errors import MolarError

AT_ONCE = 16  # pictures in memory
BUFFER = 1 << 20  # bytes of the table read at once, where Arrow would take a whole row group


@dataclass(frozen=True)
class PictureColumn:
    """Column `name` of the Parquet table `path`."""

    path: Path
    name: str

    def unpacked(self, rows: set[int], to: Path) -> dict[int, Member | str]:
        """Write the pictures of some rows (numbered from 1) to the file `to`.

        Gives each row's place, or why it has none; a row that says nothing is left out. Raises MolarError if the table
        is damaged.
        """
        places: dict[int, Member | str] = {}
        row = 0
        with to.open("wb") as file:
            for column in self._columns():
                for value in column:
                    row += 1
                    if row not in rows or not value.is_valid:
                        continue
                    held = value["bytes"] if pa.types.is_struct(column.type) else value
                    path = value["path"].as_py() if _has_path(column.type) else None
                    if held.is_valid:
                        places[row] = _written(file, str(path or f"row {row}"), held.as_buffer())
                    elif path:
                        places[row] = "picture has a path and no bytes"
        return places

    def _columns(self) -> Iterator[pa.Array]:
        """The column, a few rows at a time."""
        try:
            with pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False) as table:
                for batch in table.iter_batches(AT_ONCE, columns=[self.name], use_threads=False):
                    batch.validate(full=True)  # Arrow reads what is not UTF-8 without a word
                    yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MolarError(f"{self.path} cannot be read ({reason}): write it again as Parquet") from None


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether a column of this type holds the pictures themselves, not their names."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and holds_pictures(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def names_of(path: Path, name: str) -> list[str]:
    """What each row's picture is called: its path, or else its row."""
    file = pq.ParquetFile(path)
    rows = range(1, file.metadata.num_rows + 1)
    if not _has_path(file.schema_arrow.field(name).type):
        return [f"row {row}" for row in rows]
    column = file.read(columns=[f"{name}.path"])[name]
    return [(value or {}).get("path") or f"row {row}" for row, value in zip(rows, column.to_pylist(), strict=True)]


def _has_path(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("path") >= 0


def _written(file: BinaryIO, name: str, held: pa.Buffer) -> Member | str:
    if held.size > MAX_BYTES:
        return TOO_LARGE
    start = file.tell()
    file.write(held)
    return Member(Path(file.name), name, start, held.size, held.size)
