"""Source `amazon`: one category of the Amazon reviews of 2014, 2018 or 2023, as published, gzipped or not.

    2014  reviews_<Category>[_5].json or ratings_<Category>.csv (user,item,rating,timestamp)   meta_<Category>.json
    2018  <Category>[_5].json         or <Category>.csv         (item,user,rating,timestamp)   meta_<Category>.json
    2023  <Category>.jsonl            or <Category>.csv         (with a header)                meta_<Category>.jsonl

Optional: `images/<asin>.jpg` (.jpeg, .png, .webp), or pictures named as at the end of their url, in the folder or in
images.zip or .tar; an item without one has no picture. 2023 is joined on parent_asin. Timestamps stay in the unit of
the source, seconds in 2014 and 2018 and milliseconds in 2023, since only their order is used. The ratings of 2014 and
2018 carry no header and swap two columns: the prefix `ratings_` tells them apart, and the ids of the metadata must
agree.

Metadata list many items that nobody in the folder reviewed; these are left out unless the params ask for unseen or
listed cold items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.catalog.sources.amazon_items import picture_url, raw_item
from pipeline.catalog.sources.events import Layout, read_interactions
from pipeline.catalog.sources.json_lines import (
    BEAT,
    Record,
    identifier,
    lines,
    read_reviews,
    records,
    shown,
)
from pipeline.catalog.sources.pictures import pictures_beside
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest
from pipeline.progress import bar, say

NAME = re.compile(r"(?P<prefix>meta_|reviews_|ratings_)?.+\.(?P<kind>csv|jsonl?)(\.gz)?")
SPLIT = re.compile(r"\.(train|valid|test)\.csv(\.gz)?$")
LOOK = 20  # lines that tell an edition

# user, item, timestamp, rating
OLD_KEYS = ("reviewerID", "asin", "unixReviewTime", "overall")
NEW_KEYS = ("user_id", "parent_asin", "timestamp", "rating")
PLAIN_KEYS = ("user", "item", "timestamp", "rating")
NEEDS = "reviews and metadata of one category, such as All_Beauty.jsonl.gz and meta_All_Beauty.jsonl.gz"
NO_HEADER = {2014: ["user", "item", "rating", "timestamp"], 2018: ["item", "user", "rating", "timestamp"]}
META_KEYS = {  # one of them in the first lines tells the edition; the newest is asked first
    2023: {"parent_asin"},
    2018: {"imageURL", "imageURLHighRes", "main_cat", "category", "feature", "also_buy", "tech1"},
    2014: {"imUrl", "categories", "related", "salesRank"},
}


@dataclass(frozen=True)
class Found:
    """What lies in the raw folder."""

    edition: int
    interactions: Path
    metadata: Path
    header: bool  # of the interactions, if they are a CSV

    @property
    def is_csv(self) -> bool:
        return ".csv" in self.interactions.suffixes

    def __str__(self) -> str:
        order = "" if not self.is_csv or self.header else f" ({', '.join(NO_HEADER[self.edition])})"
        return f"Amazon reviews of {self.edition}: {self.interactions.name}{order}, {self.metadata.name}"


def recognises(root: Path) -> str | None:
    """What lies in the folder, in words; None if it is no Amazon category. Raises MolarError as `read` does."""
    events, metadata = _candidates(root)
    return str(_find(root)) if events and metadata else None


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """Interactions and items. Raises MolarError if the folder holds no edition, several, or parts of two."""
    found = _find(root)
    if params.source != "auto":  # which has said so
        say(f"recognised {found}")
    events, events_read = _interactions(found, quarantine)
    keep_all = params.keep_unseen_items or params.cold_items == "listed"
    files, packed = pictures_beside(root, "images")
    wanted = None if keep_all else set(events.item_ids)
    items, listed, items_read = _items(found, wanted, files, quarantine)
    if found.is_csv and not found.header:
        _check_order(found, events, listed)
    return Raw(
        root=root,
        items=items,
        interactions=events,
        items_file=found.metadata.name,
        interactions_file=found.interactions.name,
        rows_read={found.interactions.name: events_read, found.metadata.name: items_read},
        pictures=packed,
    )


def picture_urls(root: Path) -> Iterator[tuple[str, str]]:
    """(item id, url of its picture) of the items that somebody reviewed, in the order of the metadata."""
    found = _find(root)
    missing = set(_interactions(found, Quarantine())[0].item_ids)
    for _, record in records(found.metadata, Quarantine()):
        item_id = _item_id(record or {}, found)
        if item_id in missing:
            missing.remove(item_id)  # the first line of an item counts, as in `read`
            if url := picture_url(record or {}):
                yield item_id, url


def _find(root: Path) -> Found:
    events, metadata = _candidates(root)
    if not events or not metadata:
        lack, name = ("metadata", "meta_<Category>.jsonl.gz") if events else ("reviews", "<Category>.jsonl.gz")
        raise MolarError(f"{root} lacks {lack}: source 'amazon' needs {name} of 2023, or the like of 2014 or 2018")
    for what, paths in (("file of reviews or ratings", events), ("file of metadata", metadata)):
        if len(paths) > 1:
            splits = all(SPLIT.search(path.name) for path in paths)
            raise MolarError(
                f"{root} holds more than one {what} ({', '.join(path.name for path in paths)}): "
                f"{'join them, or take the rating_only file instead' if splits else 'keep one'}"
            )
    edition, header = _edition_of_interactions(events[0])
    other = _edition_of_metadata(metadata[0])
    if edition != other:
        raise MolarError(
            f"{root} mixes editions: {events[0].name} is of {edition}, {metadata[0].name} of {other}: "
            f"take both from one edition, under their published names"
        )
    return Found(edition, events[0], metadata[0], header)


def _candidates(root: Path) -> tuple[list[Path], list[Path]]:
    """Files that may hold interactions, and files that may hold metadata, by their names."""
    matches = [(path, NAME.fullmatch(path.name)) for path in sorted(root.iterdir()) if path.is_file()]
    named = [(path, match["prefix"], match["kind"]) for path, match in matches if match]
    events = [path for path, prefix, _ in named if prefix != "meta_"]
    return events, [path for path, prefix, kind in named if prefix == "meta_" and kind != "csv"]


def _edition_of_interactions(path: Path) -> tuple[int, bool]:
    """The edition, and whether a header opens the file."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    if match["kind"] == "csv":
        first = next((line or b"" for _, line in lines(path)), b"").decode("utf-8", "replace")
        columns = {name.strip().strip('"') for name in first.split(",")}
        if {"user_id", "parent_asin"} <= columns:
            return 2023, True
        return (2014 if match["prefix"] == "ratings_" else 2018), False
    keys = _first_keys(path)
    if set(NEW_KEYS) <= keys:
        return 2023, False
    if {"reviewerID", "asin"} <= keys:
        return (2014 if match["prefix"] == "reviews_" else 2018), False
    raise MolarError(
        f"{path} holds no Amazon review in its first {LOOK} lines: {', '.join(OLD_KEYS)} (2014, 2018) or "
        f"{', '.join(NEW_KEYS)} (2023) must be among the keys"
    )


def _edition_of_metadata(path: Path) -> int:
    keys = _first_keys(path)
    for edition, telling in META_KEYS.items():
        if telling & keys:
            return edition
    raise MolarError(f"{path} is no metadata of 2014, 2018 or 2023: the keys of its first {LOOK} lines tell nothing")


def _first_keys(path: Path) -> set[str]:
    first = islice(records(path, Quarantine()), LOOK)
    return {key for _, record in first if record is not None for key in record}


def _interactions(found: Found, quarantine: Quarantine) -> tuple[Interactions, int]:
    path = found.interactions
    if not found.is_csv:
        return read_reviews(path, NEW_KEYS if found.edition == 2023 else OLD_KEYS, quarantine)
    columns = NEW_KEYS if found.header else PLAIN_KEYS
    names = None if found.header else NO_HEADER[found.edition]
    return read_interactions(path, columns, quarantine, Layout(names=names))


def _items(
    found: Found, wanted: set[str] | None, files: dict[str, str], quarantine: Quarantine
) -> tuple[list[RawItem], set[str], int]:
    """The wanted items (None: all), the ids of all, and how many lines were read."""
    items: list[RawItem] = []
    listed: set[str] = set()
    read = 0
    name = found.metadata.name
    with bar(f"read {name}", unit="lines") as progress:
        for number, record in records(found.metadata, quarantine):
            read += 1
            if read % BEAT == 0:
                progress.advance(BEAT)
            if record is None:
                continue
            item_id = _item_id(record, found)
            if item_id is None:
                quarantine.add(name, number, "item id is empty", shown(record.get("title")))
            elif item_id in listed:
                quarantine.add(name, number, "item id stands in an earlier row too", item_id)
            else:
                listed.add(item_id)
                if wanted is None or item_id in wanted:
                    items.append(raw_item(record, item_id, number, files))
    return items, listed, read


def _item_id(record: Record, found: Found) -> str | None:
    return identifier(record.get("parent_asin" if found.edition == 2023 else "asin"))


def _check_order(found: Found, events: Interactions, listed: set[str]) -> None:
    """Refuse a CSV without header whose users are the metadata's items."""
    as_items = sum(item_id in listed for item_id in events.item_ids)
    as_users = sum(user_id in listed for user_id in events.user_ids)
    if as_users > as_items:
        raise MolarError(
            f"{found.interactions} has its items where {', '.join(NO_HEADER[found.edition])} has users: 2014 puts "
            f"users first and is named ratings_<Category>.csv, 2018 puts items first and is named <Category>.csv"
        )
