"""Source `pixelrec`: PixelRec as its authors publish it, any of its sizes.

    interaction.csv | Pixel50K.csv | ...    item_id,user_id,timestamp (s); any one CSV with these columns
    item_info.csv | information/*.csv       item_id,view_number,...,barrage_number,title,tag,description
    covers/ | cover/ | images/              <item id>.jpg (.jpeg, .png, .webp); or one covers.zip, cover.tar, ...

An item's text is its description; its only attribute is its tag. Any of title, tag, description and cover may be
missing. The seven counters (views, comments, thumbs, shares, coins, favourites, barrages) are totals of long after the
choices that a model is asked to foresee: they are never read.
"""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw, RawItem
from pipeline.catalog.sources.events import read_interactions
from pipeline.catalog.sources.items import require
from pipeline.catalog.sources.pictures import pictures_beside
from pipeline.catalog.sources.rows import read_delimited
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest

NEEDS = "a CSV with item_id, user_id and timestamp, and item_info.csv"
EVENT_COLUMNS = {"item_id", "user_id", "timestamp"}
ITEM_COLUMNS = ["item_id", "title", "tag", "description"]
COVERS = ("covers", "cover", "images")  # of a cover in two of them, the earlier counts
LONGEST_HEADER = 1 << 16  # bytes


def recognises(root: Path) -> str | None:
    """What lies in the folder, in words; None if it is no PixelRec."""
    events, items = _candidates(root)
    return f"PixelRec: {events[0].name}, {_name(root, items[0])}" if len(events) == len(items) == 1 else None


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """Interactions and items. Raises MolarError if a file or a column is missing, or if there are two of a kind."""
    if params.min_rating is not None:
        raise MolarError(
            f"ingest.min_rating = {params.min_rating:g} needs ratings, and PixelRec has none: "
            f"set ingest.min_rating to null"
        )
    events, items = _candidates(root)
    interactions_path = _one(root, events, f"CSV with the columns {', '.join(sorted(EVENT_COLUMNS))}")
    items_path = _one(root, items, "table of items (item_info.csv or information/*.csv)")
    interactions, interactions_read = read_interactions(
        interactions_path, ("user_id", "item_id", "timestamp", None), quarantine
    )
    covers, packed = pictures_beside(root, *COVERS)
    found, items_read = _items(root, items_path, covers, quarantine)
    return Raw(
        root=root,
        items=found,
        interactions=interactions,
        items_file=_name(root, items_path),
        interactions_file=interactions_path.name,
        rows_read={interactions_path.name: interactions_read, _name(root, items_path): items_read},
        pictures=packed,
    )


def _candidates(root: Path) -> tuple[list[Path], list[Path]]:
    """Tables of interactions, known by their header, and tables of items, known by their place."""
    events = [path for path in sorted(root.glob("*.csv")) if _header(path) >= EVENT_COLUMNS]
    return events, [*root.glob("item_info.csv"), *sorted((root / "information").glob("*.csv"))]


def _header(path: Path) -> set[str]:
    with path.open("rb") as handle:
        first = handle.readline(LONGEST_HEADER).decode("utf-8-sig", "replace").strip()
    return set(next(csv.reader([first]), []))


def _one(root: Path, paths: list[Path], what: str) -> Path:
    if not paths:
        raise MolarError(f"{root} holds no {what}: source 'pixelrec' needs one")
    if len(paths) > 1:
        raise MolarError(f"{root} holds more than one {what}: keep one of {', '.join(_name(root, p) for p in paths)}")
    return paths[0]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _items(root: Path, path: Path, covers: dict[str, str], quarantine: Quarantine) -> tuple[list[RawItem], int]:
    name = _name(root, path)
    bad_lines = Quarantine()  # kept by the file's own name, which the two tables may share
    table, row, read = read_delimited(path, path.read_bytes(), bad_lines, delimiter=",", names=None)
    for _, number, reason, value in bad_lines.entries:
        quarantine.add(name, number, reason, value)
    require(path, table.column_names, ITEM_COLUMNS, "take the file as published")
    items: dict[str, RawItem] = {}
    columns = ([value.strip() or None for value in table[column].to_pylist()] for column in ITEM_COLUMNS)
    for number, item_id, title, tag, description in zip(row, *columns, strict=True):
        if item_id is None:
            quarantine.add(name, number, "item id is empty", title)
        elif item_id in items:
            quarantine.add(name, number, "item id stands in an earlier row too", item_id)
        else:
            items[item_id] = RawItem(
                item_id=item_id,
                row=int(number),
                title=title,
                text=description,
                attributes={"tag": tag} if tag else {},
                image=covers.get(item_id),
            )
    return list(items.values()), read
