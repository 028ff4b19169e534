"""What every source yields: items as they stand in its item table, and interactions as flat arrays.

A source (sources/*.py) does three things and no more: it finds its files, names their columns, and quarantines
rows that cannot be read. Filters, order, split and pictures are the same for all and come later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.catalog.archive import Archive
from pipeline.catalog.picture_column import PictureColumn


@dataclass(frozen=True, slots=True)
class RawItem:
    """One row of the item table. None, never an empty string, where the source says nothing."""

    item_id: str
    row: int  # in the item table, as quarantine.parquet counts rows
    title: str | None
    text: str | None = None
    caption: str | None = None
    summary: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    image: str | None = None  # as the source names it: relative to the raw folder or to its images/


@dataclass(frozen=True, eq=False)
class Interactions:
    """N readable interactions in file order, users and items as codes into the two id lists."""

    user: np.ndarray  # (N,) int32
    item: np.ndarray  # (N,) int32
    timestamp: np.ndarray  # (N,) int64
    rating: np.ndarray | None  # (N,) float64
    row: np.ndarray  # (N,) int32 or int64, as quarantine.parquet counts rows
    user_ids: list[str]
    item_ids: list[str]

    def __len__(self) -> int:
        return len(self.user)

    def at(self, index: np.ndarray) -> Interactions:
        """The interactions that a mask keeps, or those at the given positions, in that order."""
        if index.dtype == np.bool_ and index.all():
            return self  # a filter that drops nothing need not copy millions of rows
        rating = None if self.rating is None else self.rating[index]
        return replace(
            self,
            user=self.user[index],
            item=self.item[index],
            timestamp=self.timestamp[index],
            rating=rating,
            row=self.row[index],
        )


def together(one: Interactions, other: Interactions) -> Interactions:
    """Both, which share their codes, in time order (ties by file order); without ratings."""
    timestamp, row = (
        np.concatenate([getattr(events, name) for events in (one, other)]) for name in ("timestamp", "row")
    )
    order = np.lexsort((row, timestamp))
    return replace(
        one,
        user=np.concatenate([one.user, other.user])[order],
        item=np.concatenate([one.item, other.item])[order],
        timestamp=timestamp[order],
        rating=None,
        row=row[order],
    )


@dataclass(frozen=True, eq=False)
class Raw:
    """One raw data set, before any filter."""

    root: Path
    items: list[RawItem]  # in file order, ids distinct
    interactions: Interactions
    items_file: str  # names inside root, for messages and quarantine.parquet
    interactions_file: str
    rows_read: dict[str, int]  # per file, quarantined rows included
    pictures: Archive | PictureColumn | None = None  # None: files in root, as the items name them

    def without_interactions(self) -> Raw:
        """All else: once they are sequences, millions of rows need not wait in memory for the pictures."""
        nothing = self.interactions.at(np.zeros(0, np.int64))
        return replace(self, interactions=replace(nothing, user_ids=[], item_ids=[]))
