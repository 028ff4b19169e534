"""One record a line, plain or gzipped, read as a stream: JSON objects, or the Python literals of older dumps.

A line that is no record is quarantined; a line above LONGEST_LINE is never held in memory whole, one above
LONGEST_LITERAL never meets Python's parser, and nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import json
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.gzipped import DAMAGE, broken, opened
from pipeline.catalog.sources.plain import readable
from pipeline.progress import bar

Record = dict[str, Any]

LONGEST_LINE = 1 << 20  # bytes; the longest reviews and descriptions have some tens of thousands
LONGEST_LITERAL = 1 << 17  # bytes; Python's parser takes about 4 us a byte on a hostile line
LATEST = 10**18  # any clock shows less, and int64 holds it
BEAT = 10_000  # lines between two looks at the progress bar


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line), None for a line that is too long; blank lines count but do not come.

    Raises MolarError where a gzipped file breaks off or is damaged.
    """
    number = 0
    try:
        with opened(path) as handle:
            while line := handle.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while not line.endswith(b"\n") and (line := handle.readline(LONGEST_LINE)):
                        pass
                    yield number, None
                elif stripped := (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
                    yield number, stripped
    except DAMAGE:
        raise broken(path, f" after line {number:,}") from None


def records(path: Path, quarantine: Quarantine) -> Iterator[tuple[int, Record | None]]:
    """(number, record) of every line that is not blank; None stands for a line that went to quarantine."""
    for number, line in lines(path):
        if line is None:
            quarantine.add(path.name, number, f"line is above {LONGEST_LINE:,} bytes", None)
            yield number, None
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            quarantine.add(path.name, number, "line is not UTF-8", line[:400].decode("utf-8", "replace"))
            yield number, None
            continue
        record = _parsed(text)
        if record is None:
            quarantine.add(path.name, number, "line is no record (neither JSON nor a literal)", text)
        yield number, record


def _parsed(text: str) -> Record | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _literal(text)
    return value if isinstance(value, dict) else None


def _literal(text: str) -> object:
    """A Python literal's value, None if `text` is none. Never evaluates anything."""
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash is the dump's affair
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that literal_eval documents
        return None


def read_reviews(path: Path, keys: tuple[str, str, str, str], quarantine: Quarantine) -> tuple[Interactions, int]:
    """Interactions of a file with one review a line, and how many lines were read, quarantined ones included.

    `keys` name user, item, timestamp and rating. Besides ids, memory holds 32 bytes an interaction.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, timestamp, row, rating = array("i"), array("i"), array("q"), array("q"), array("d")
    user_key, item_key, time_key, rating_key = keys
    read = 0
    with bar(f"read {path.name}", unit="lines") as progress:
        for number, record in records(path, quarantine):
            read += 1
            if read % BEAT == 0:
                progress.advance(BEAT)
            if record is None:
                continue
            who, what = identifier(record.get(user_key)), identifier(record.get(item_key))
            when, stars = whole(record.get(time_key)), finite(record.get(rating_key))
            if who is None:
                quarantine.add(path.name, number, "user is empty", shown(record.get(user_key)))
            elif what is None:
                quarantine.add(path.name, number, "item is empty", shown(record.get(item_key)))
            elif when is None:
                quarantine.add(path.name, number, "timestamp is not a whole number", shown(record.get(time_key)))
            elif stars is None:
                quarantine.add(path.name, number, "rating is not a number", shown(record.get(rating_key)))
            else:
                user.append(users.setdefault(who, len(users)))
                item.append(items.setdefault(what, len(items)))
                timestamp.append(when)
                rating.append(stars)
                row.append(number)
    events = Interactions(
        user=np.asarray(user),
        item=np.asarray(item),
        timestamp=np.asarray(timestamp),
        rating=np.asarray(rating),
        row=np.asarray(row),
        user_ids=list(users),
        item_ids=list(items),
    )
    return events, read


def identifier(value: object) -> str | None:
    """An id as it stands, None for what can be none: another type, an empty string, control characters."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def whole(value: object) -> int | None:
    """A whole number that a clock may show; `5.0` is one, True is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -LATEST < value < LATEST else None


def finite(value: object) -> float | None:
    """A number, None for what is none or has no end."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LATEST < value < LATEST else None


def shown(value: object) -> str | None:
    """What stood in a field, for quarantine; of a list or an object only that it was one."""
    if value is None:
        return None
    return readable(str(value)) if isinstance(value, str | int | float) else type(value).__name__
