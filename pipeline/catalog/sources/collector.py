"""Blocks of interactions as text -> typed arrays, two id lists, and a word on every row that does not fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.rows import as_text, filled, numbers, whole_numbers

Columns = tuple[str, str, str, str | None]  # names of user, item, timestamp and rating (None: there is none)

CODES = pa.dictionary(pa.int32(), pa.string())


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


def of_table(table: pa.Table, row: np.ndarray, file: str, columns: Columns, quarantine: Quarantine) -> Interactions:
    """Type the columns of a table and quarantine the rows that do not fit; `row` (int64) numbers its rows."""
    collected = Collector(file, columns)
    collected.add(table)
    return collected.finish(row, quarantine)


def numbered(rows: int, first: int) -> np.ndarray:
    """`first`, `first` + 1, ...: int32 wherever that holds them, for there are as many as interactions."""
    return np.arange(first, first + rows, dtype=np.int32 if first + rows < 1 << 31 else np.int64)


def united(chunks: Sequence[pa.DictionaryArray]) -> tuple[np.ndarray, list[str]]:
    """int32 codes of dictionary-encoded chunks and the distinct values they stand for, by first appearance."""
    whole = pa.chunked_array(chunks, CODES).unify_dictionaries()
    if not whole.num_chunks:
        return np.zeros(0, np.int32), []
    return np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks]), whole.chunk(0).dictionary.to_pylist()
