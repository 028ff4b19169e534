"""Rows and pictures that cannot be used: kept with file, row, reason and value, and counted against a limit.

A row is the 1-based record of its file (a CSV's header is row 1, so that the number is the line an editor shows
unless a quoted value spans lines). A picture has the source "images", the row of its item in the item table and
the picture's name as value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.errors import MolarError

IMAGES = "images"
SCHEMA = pa.schema([("source", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("value", pa.string())])
LONGEST_VALUE = 200  # characters kept of an offending value
EXAMPLES = 3


class Quarantine:
    """Collects in the order of discovery."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int, str, str | None]] = []

    def add(self, source: str, row: int, reason: str, value: str | None) -> None:
        self.entries.append((source, int(row), reason, None if value is None else value[:LONGEST_VALUE]))

    def add_rows(self, source: str, rows: Iterable[int], reason: str, values: Sequence[object]) -> None:
        """Many rows of one file for one reason; `values` are what stood there, None where nothing did."""
        for row, value in zip(rows, values, strict=True):
            self.add(source, row, reason, None if value is None else str(value))

    def count(self, source: str) -> int:
        return sum(entry[0] == source for entry in self.entries)

    def reasons(self) -> dict[str, dict[str, int]]:
        """source -> reason -> how often, most frequent first."""
        counts: dict[str, Counter[str]] = {}
        for source, _, reason, _ in self.entries:
            counts.setdefault(source, Counter())[reason] += 1
        return {source: dict(counter.most_common()) for source, counter in sorted(counts.items())}

    def check(self, root: Path, source: str, read: int, limit: float) -> None:
        """Raise MolarError when more than `limit` of the `read` rows (or pictures) of a source are in here."""
        bad = self.count(source)
        if bad <= limit * read:
            return
        reasons = "; ".join(
            f"{count} x {reason} ({self._examples(source, reason)})"
            for reason, count in list(self.reasons()[source].items())[:EXAMPLES]
        )
        raise MolarError(
            f"{root / source}: {bad:,} of {read:,} {'pictures' if source == IMAGES else 'rows'} "
            f"({bad / read:.1%}) are unusable, above ingest.max_quarantine = {limit:g}: {reasons}: "
            f"mend the file or raise the limit"
        )

    def _examples(self, source: str, reason: str) -> str:
        found = [(row, value) for where, row, why, value in self.entries if (where, why) == (source, reason)]
        shown = [f"row {row}" if value is None else f"row {row}: {value[:40]!r}" for row, value in found[:EXAMPLES]]
        return ", ".join(shown)

    def table(self) -> pa.Table:
        """All entries, sorted by source and row; equal rows stay in the order of discovery."""
        columns = list(zip(*sorted(self.entries, key=lambda entry: entry[:2]), strict=True)) or [(), (), (), ()]
        return pa.table([pa.array(c, t.type) for c, t in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
