"""What `dvc plots show` draws of a catalogue: small tables (TSV) of counts in buckets, one a plot.

    interactions_per_user.tsv    from, interactions, users
    interactions_per_item.tsv    from, interactions, items       of warm items
    interactions_over_time.tsv   from, time, interactions        of warm items; SPANS equal spans
    text_length.tsv              from, characters, items         title, text and attribute values together
    image_sizes.tsv              from, pixels, share             longest side of the source, before ingest.image_size
    coverage.tsv                 from, part, share               of items, and of interactions, that have a part

`from` is where a bucket starts, or its place: the template .dvc/plots/bars.json sorts by it. Shares are of one.
Timestamps come in the unit of the source; seconds since 1970 and their fractions are recognised and shown as dates.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.catalog.catalogue import Sequences
from pipeline.catalog.raw import RawItem

SPANS = 50
STEPS = np.array([1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70])  # bucket edges, equally wide to the eye on a log scale
CLOCKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # numpy's units, ticks a second
RECENT = 10**8  # seconds after 1970 from which a number is taken for a time: March 1973
NEVER = 253_402_300_800  # the year 10000
SAMPLED = 1 << 20  # timestamps counted at once
PARTS = ("title", "text", "caption", "summary", "attributes", "image")

Row = tuple[int, str, int | float]


def write(folder: Path, items: Sequence[RawItem], side_N: np.ndarray, sequences: Sequences) -> None:
    """All tables into the new `folder`. `side_N`: the longest side of each item's picture, 0 for none."""
    folder.mkdir()
    popularity_N = np.bincount(sequences.items, minlength=sequences.num_items)
    lengths_N = np.array([_characters(item) for item in items])
    tables: dict[str, tuple[tuple[str, str], list[Row]]] = {
        "interactions_per_user": (("interactions", "users"), in_buckets(np.diff(sequences.offsets))),
        "interactions_per_item": (("interactions", "items"), in_buckets(popularity_N[: sequences.num_warm])),
        "interactions_over_time": (("time", "interactions"), over_time(sequences.timestamps)),
        "text_length": (("characters", "items"), in_buckets(lengths_N)),
        "image_sizes": (("pixels", "share"), _shares(in_buckets(side_N[side_N > 0]))),
        "coverage": (("part", "share"), _coverage(items, side_N > 0, popularity_N)),
    }
    for name, (columns, rows) in tables.items():
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
            writer.writerow(("from", *columns))
            writer.writerows(rows)


def in_buckets(values: np.ndarray) -> list[Row]:
    """How many of the values (whole, >= 0) lie in each bucket from the least to the greatest; 0 has its own."""
    if not len(values):
        return []
    edges = [0, *STEPS[:5].tolist()]
    scale = 1
    while edges[-1] <= int(values.max()):
        edges += (STEPS[5:] * scale).tolist()
        scale *= 10
    counts = np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=len(edges) - 1)
    first, last = np.flatnonzero(counts)[[0, -1]]
    return [(edges[i], _span(edges[i], edges[i + 1] - 1), int(counts[i])) for i in range(first, last + 1)]


def over_time(timestamps: np.ndarray) -> list[Row]:
    """How many interactions fall into each of at most SPANS equal spans of time; labelled by their start, in UTC."""
    first, last = int(timestamps.min()), int(timestamps.max())
    width = (last - first) // SPANS + 1
    counts = np.zeros((last - first) // width + 1, dtype=np.int64)
    for start in range(0, len(timestamps), SAMPLED):
        counts += np.bincount((timestamps[start : start + SAMPLED] - first) // width, minlength=len(counts))
    starts = [first + i * width for i in range(len(counts))]
    return list(zip(starts, _dates(starts, width, _unit(timestamps)), counts.tolist(), strict=True))


def _unit(timestamps: np.ndarray) -> str | None:
    """The clock unit of timestamps, told by their middle; None if they are no times of ours, such as positions."""
    middle = float(np.median(timestamps[:: len(timestamps) // 10_000 + 1]))
    for unit, ticks in CLOCKS.items():
        if RECENT * ticks <= middle < RECENT * ticks * 1000:
            in_range = -NEVER // 5 * ticks < int(timestamps.min()) and int(timestamps.max()) < NEVER * ticks
            return unit if in_range else None
    return None


def _dates(starts: list[int], width: int, unit: str | None) -> list[str]:
    """The starts of spans as dates, as exact as their width asks for; as numbers if they have no unit."""
    if unit is None:
        return [str(start) for start in starts]
    moments = np.array(starts, dtype=np.int64).astype(f"datetime64[{unit}]")
    seconds = width / CLOCKS[unit]
    shown = "D" if seconds >= 86_400 else "m" if seconds >= 60 else "s" if seconds >= 1 else unit
    return [str(moment).replace("T", " ") for moment in moments.astype(f"datetime64[{shown}]")]


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"  # a dash would make dates of them in a spreadsheet


def _shares(rows: list[Row]) -> list[Row]:
    whole = sum(count for _, _, count in rows)
    return [(start, label, round(count / whole, 4)) for start, label, count in rows]


def _characters(item: RawItem) -> int:
    """Of what a model reads: captions and summaries are targets, never an input."""
    return sum(len(words) for words in (item.title, item.text, *item.attributes.values()) if words)


def _coverage(items: Sequence[RawItem], has_image: np.ndarray, popularity_N: np.ndarray) -> list[Row]:
    shares = []
    for part in PARTS:
        has_N = has_image if part == "image" else np.array([bool(getattr(item, part)) for item in items])
        shares.append((f"{part} of items", has_N.mean()))
        shares.append((f"{part} of interactions", popularity_N[has_N].sum() / popularity_N.sum()))
    return [(place, label, round(float(share), 4)) for place, (label, share) in enumerate(shares)]
