"""Source `recbole`: the atomic files of one RecBole data set, TAB-separated under a header of `name:type`.

    <name>.inter    user_id:token  item_id:token  timestamp:float  [rating:float]
    <name>.item     item_id:token  movie_title:token_seq  release_year:token  class:token_seq ...     optional
    images/         <item id>.jpg; or images.zip, images.tar                                          optional

Columns are found by name, in any order; those of .inter beyond the four, and .user, .kg, .link and .net, are not read.
An item's title is its column `title`, else one with "title" in its name, else `name`, else one with "name" in it;
every other column is an attribute, numbers as written, "nan" as nothing. Words of a token_seq stay as written, but
for columns of labels (genre, class, category, tag, keyword), which read better with commas. A float_seq is a vector and
says nothing in words: it is left out, aloud. Quotes are characters like any other. Without .item an item is its id.

The sequential benchmark files are taken where there is no <name>.inter:

    <name>.train.inter, <name>.valid.inter, <name>.test.inter    user_id:token  item_id_list:token_seq  item_id:token

A user's sequence is the longest list and its target (of equal ones the last, test after validation after training);
timestamps are positions in it, so that times of two users do not compare. A list that was cut to the most recent
items cannot give back what was cut: rows that hold something else than the sequence are counted aloud.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.catalog.sources.collector import of_table
from pipeline.catalog.sources.events import Layout, read_interactions
from pipeline.catalog.sources.items import distinct, require
from pipeline.catalog.sources.pictures import pictures_beside
from pipeline.catalog.sources.rows import read_delimited
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest
from pipeline.progress import say

NEEDS = "<name>.inter"
TYPES = ("token", "token_seq", "float", "float_seq")
LONGEST_HEADER = 1 << 20  # bytes
SPLITS = ("train", "valid", "test")
LABELS = re.compile(r"(^|_)(genres?|class(es)?|category|categories|tags?|keywords?)($|_)")
PUNCTUATED = re.compile(r",|(^|\s)[^\w\s]")  # lists with commas of their own, quoted labels, an "&" between words
ADVICE = "name the column so in the header"


@dataclass(frozen=True, eq=False)
class Atomic:
    """One file: string columns by bare name, their types, each row's number (the header is row 1), rows read."""

    path: Path
    table: pa.Table
    types: dict[str, str]
    row: np.ndarray  # (N,) int64
    rows_read: int
    lines: int


def recognises(root: Path) -> str | None:
    """The interaction files in the folder; None if there are none."""
    names = sorted(path.name for path in root.glob("*.inter"))
    return f"RecBole atomic files ({', '.join(names)})" if names else None


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """The one data set of the folder. Raises MolarError: none, several, a header without types, a missing column."""
    name, files = _data_set(root)
    rows_read: dict[str, int] = {}
    if files[0].name == f"{name}.inter":
        interactions_file = files[0].name
        events, rows_read[interactions_file] = _interactions(files[0], quarantine)
    else:
        opened = [_open(path, quarantine) for path in files]
        rows_read |= {file.path.name: file.rows_read for file in opened}
        interactions_file = f"{name}.{{{','.join(path.name.split('.')[-2] for path in files)}}}.inter"
        events = _sequences(opened, interactions_file, quarantine)
        rows_read[interactions_file] = len(events)
    if params.min_rating is not None and events.rating is None:
        raise MolarError(
            f"ingest.min_rating = {params.min_rating:g} needs ratings, {root / interactions_file} has no column "
            f"'rating': set ingest.min_rating to null"
        )
    items_path = root / f"{name}.item"
    if items_path.is_file():
        file = _open(items_path, quarantine)
        rows_read[items_path.name] = file.rows_read
        items = _items(file, quarantine)
    else:
        say(f"{root} has no {items_path.name}: items are their ids alone, without words")
        first = np.unique(events.item, return_index=True)[1]  # codes follow first appearance
        items = [RawItem(events.item_ids[events.item[i]], int(events.row[i]), title=None) for i in first]
    pictures, packed = pictures_beside(root, "images")
    return Raw(
        root=root,
        items=[replace(item, image=pictures.get(item.item_id)) for item in items] if pictures else items,
        interactions=events,
        items_file=items_path.name if items_path.is_file() else interactions_file,
        interactions_file=interactions_file,
        rows_read=rows_read,
        pictures=packed,
    )


def _data_set(root: Path) -> tuple[str, list[Path]]:
    """The name of the data set, and its .inter or its benchmark files in the order of SPLITS."""
    names: dict[str, set[str]] = {}
    for path in root.glob("*.inter"):
        name, _, split = path.stem.rpartition(".")
        if split in SPLITS and name:
            names.setdefault(name, set()).add(split)
        else:
            names.setdefault(path.stem, set())
    if not names:
        raise MolarError(f"{root} holds no .inter file: point ingest.path at the folder of a RecBole data set")
    if len(names) > 1:
        raise MolarError(f"{root} holds more than one data set ({', '.join(sorted(names))}): give each its own folder")
    [(name, splits)] = names.items()
    if (root / f"{name}.inter").is_file():
        return name, [root / f"{name}.inter"]
    return name, [root / f"{name}.{split}.inter" for split in SPLITS if split in splits]


def _types(path: Path) -> dict[str, str]:
    """Column names and their types. Raises MolarError if the header is no list of `name:type` fields."""
    types: dict[str, str] = {}
    with path.open("rb") as file:
        header = file.readline(LONGEST_HEADER)
    for field in header.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t"):
        name, _, kind = field.partition(":")
        if kind not in TYPES:
            raise MolarError(
                f"{path}: header field {field[:40]!r} is no name:type: write a type ({', '.join(TYPES)}) after each "
                f"name, and a TAB between fields"
            )
        if name in types:
            raise MolarError(f"{path} has more than one column '{name}': rename all but one")
        types[name] = kind
    return types


def _open(path: Path, quarantine: Quarantine) -> Atomic:
    """Parse a whole file. Raises MolarError for another header, or no UTF-8."""
    content, types = path.read_bytes(), _types(path)
    # Names are given, so that the header is parsed as row 1: the reader allows quotes to whoever leaves it the header.
    table, row, rows_read = read_delimited(path, content, quarantine, delimiter="\t", names=list(types))
    return Atomic(path, table.slice(1), types, row[1:], rows_read - 1, content.count(b"\n"))


def _interactions(path: Path, quarantine: Quarantine) -> tuple[Interactions, int]:
    """The interactions of <name>.inter, which is never whole in memory, and how many rows were read."""
    types = _types(path)
    require(path, types, ("user_id", "item_id", "timestamp"), ADVICE)
    columns = ("user_id", "item_id", "timestamp", "rating" if "rating" in types else None)
    return read_interactions(path, columns, quarantine, Layout("\t", list(types), headed=True))


def _sequences(files: list[Atomic], name: str, quarantine: Quarantine) -> Interactions:
    """Every user's longest list and target, in order. Rows are numbered as those of the files laid end to end."""
    longest: dict[str, tuple[list[str], int]] = {}
    parts: list[tuple[str, str]] = []
    lines = 0
    for file in files:
        require(file.path, file.types, ("user_id", "item_id_list", "item_id"), ADVICE)
        columns = (file.table[column].to_pylist() for column in ("user_id", "item_id_list", "item_id"))
        for row, user, items, target in zip(file.row.tolist(), *columns, strict=True):
            if not user or not target:
                quarantine.add(file.path.name, row, "item is empty" if user else "user is empty", target or items)
                continue
            whole = [*items.split(), target]
            parts.append((user, f" {' '.join(whole)} "))
            if user not in longest or len(whole) >= len(longest[user][0]):
                longest[user] = whole, lines + row
        lines += file.lines
    sequences = {user: f" {' '.join(items)} " for user, (items, _) in longest.items()}
    other = sum(part not in sequences[user] for user, part in parts)
    if other:
        say(f"{name}: {other:,} of {len(parts):,} rows hold items that their user's longest list lacks: was it cut?")
    length = [len(items) for items, _ in longest.values()]
    table = pa.table(
        {
            "user": pa.array(np.repeat(np.array(list(longest), dtype=object), length), pa.string()),
            "item": pa.array([item for items, _ in longest.values() for item in items], pa.string()),
            "timestamp": pa.array([place for n in length for place in range(n)], pa.int64()),
        }
    )
    row = np.repeat(np.array([row for _, row in longest.values()], dtype=np.int64), length)
    return of_table(table, row, name, ("user", "item", "timestamp", None), quarantine)


def _items(file: Atomic, quarantine: Quarantine) -> list[RawItem]:
    require(file.path, file.types, ("item_id",), ADVICE)
    title = _title_column([name for name, kind in file.types.items() if name != "item_id" and kind.startswith("token")])
    vectors = [name for name, kind in file.types.items() if kind == "float_seq"]
    if vectors:
        say(f"{file.path}: left out as no words: {', '.join(vectors)}")
    attributes = [name for name in file.types if name not in ("item_id", title, *vectors)]
    titles = _words(file, title) if title else [None] * len(file.row)
    values = {name: _words(file, name) for name in attributes}
    items = (
        RawItem(
            item_id=item_id,
            row=int(file.row[i]),
            title=titles[i],
            attributes={name: value for name in attributes if (value := values[name][i]) is not None},
        )
        for i, item_id in enumerate(file.table["item_id"].to_pylist())
    )
    return distinct(items, file.path.name, quarantine)


def _title_column(names: list[str]) -> str | None:
    for word in ("title", "name"):
        found = [name for name in names if word in name.lower()]
        if found:
            return word if word in found else found[0]
    return None


def _words(file: Atomic, name: str) -> list[str | None]:
    """A column's values; commas between the labels of a token_seq, unless the source punctuates them itself."""
    values = [value.strip() for value in file.table[name].to_pylist()]
    is_list = file.types[name] == "token_seq" and LABELS.search(name.lower())
    if is_list and not any(PUNCTUATED.search(value) for value in values):
        values = [", ".join(value.split()) for value in values]
    return [None if value in ("", "nan") else value for value in values]
