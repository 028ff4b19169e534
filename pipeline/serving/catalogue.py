"""The items and users of a run by their ids: histories, titles, pictures, and one table of items to filter by.

    catalogue = Catalogue.open("data")
    catalogue.items                          a pyarrow table, a row an item
    catalogue.history("u0007")               the item ids that a user chose, oldest first
    catalogue.find("Toy Story (1995)")       ids by title

Columns of `items`: item_id, title, text (strings), cold (bool: no model was trained on it), interactions (int64, of
training parts alone), picture (bool), then a string column for each attribute, at most MOST_ATTRIBUTES of them, the
most frequent. An attribute called like a column before it, or like one that answers add (`rank`, `score`), is
`attributes.<name>`. A filter is an expression over these columns, which Arrow evaluates for all items at once:

    import pyarrow.compute as pc
    where = (pc.field("brand") == "alba") & ~pc.field("cold")
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import count
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from pipeline import artifacts
from pipeline.catalog import catalogue as stored
from pipeline.catalog.catalogue import Items, Sequences
from pipeline.catalog.names import find_items, find_user, near
from pipeline.errors import MolarError
from pipeline.serving.given import unwrapped

MOST_ATTRIBUTES = 64  # columns; a shop of products may have thousands of names, each of a few items
ROW = "item number"  # the column that a filtered table is told from
RANK, SCORE = "rank", "score"  # columns of an answer, which no attribute may be called like


class Catalogue:
    """Items in the order of their numbers, those added in memory last; users of the run."""

    def __init__(self, items: Items, sequences: Sequences) -> None:
        self.stored, self.sequences = items, sequences
        self.item_ids, self.titles = list(items.item_ids), list(items.titles)
        self._number = {item_id: number for number, item_id in enumerate(self.item_ids)}
        self._added: list[Items] = []  # of one item each

    @classmethod
    def open(cls, folder: str | PathLike[str] = "data") -> Catalogue:
        """The catalogue in the `data` folder of a run. Raises MolarError: no such folder, missing or damaged files."""
        artifact = artifacts.read(existing(folder) / "catalog", "ingest")
        return cls(stored.open_items(artifact), stored.open_sequences(artifact))

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def user_ids(self) -> list[str]:
        """Every user's id, in the order of the run."""
        return self.sequences.user_ids

    def history(self, user: str) -> list[str]:
        """Item ids that a user chose, oldest first, held-out ones included. Raises MolarError: no such user."""
        row = find_user(self.user_ids, user)
        return [self.item_ids[item] for item in self.sequences.history(row).tolist()]

    def find(self, *names: str) -> list[str]:
        """Ids of items by title, without regard to case, or by id. Raises MolarError: no item or several fit."""
        return [self.item_ids[number] for number in find_items(self, names).tolist()]

    def numbers(self, ids: Iterable[str], what: str) -> NDArray[np.int32]:
        """Numbers (L,) int32 of item ids, in their order: a list of them, or a column of an answer or a data frame.

        Raises MolarError, which opens with `what`: no list, an unknown id.
        """
        single = unwrapped(ids)
        if isinstance(single, str):
            raise MolarError(f"{what} = {single!r}: should be a list of item ids, such as [{single!r}]")
        if not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) != 1:
            raise MolarError(f"{what} is of the type {type(ids).__name__}: should be a list of item ids, or a column")
        found = []
        for item_id in map(unwrapped, ids):
            if not isinstance(item_id, str) or item_id not in self._number:
                shown = repr(item_id).splitlines()[0]  # an array's goes on and on
                raise MolarError(f"{what}: no item has the id {shown}{near(str(item_id), self.item_ids)}")
            found.append(self._number[item_id])
        return np.array(found, np.int32)

    def image(self, item_id: str) -> Image.Image | None:
        """The picture of an item as models see it, RGB; None if it has none. Raises MolarError: no such item."""
        (number,) = self.numbers([item_id], "image").tolist()
        items, row = self._of(number)
        encoded = items.image_bytes(row)
        return None if encoded is None else Image.open(io.BytesIO(encoded)).convert("RGB")

    @property
    def items(self) -> pa.Table:
        """One row an item, in the order of their numbers; the columns stand at the head of this module."""
        return self._table.drop_columns([ROW])

    def rows(self, numbers: Sequence[int]) -> pa.Table:
        """The rows of `items` of these numbers, in their order."""
        return self.items.take(pa.array(numbers, pa.int64()))

    def where(self, condition: pc.Expression) -> NDArray[np.bool_]:
        """(N,) bool: the items that satisfy an expression over the columns of `items`; null counts as no.

        Raises MolarError: no expression, or one of columns that are not there or of another type.
        """
        if not isinstance(condition, pc.Expression):
            raise MolarError(
                f"where = {condition!r}: should be a pyarrow expression over the items' columns, such as "
                "pc.field('cold') == False"
            )
        try:
            kept = self._table.filter(condition)[ROW].to_numpy()
        except (pa.ArrowException, TypeError) as error:
            why = str(error).partition(" in ")[0].splitlines()[0]
            columns = ", ".join(self.items.column_names)
            raise MolarError(f"where = {condition}: {why} (the columns are {columns})") from None
        chosen_N = np.zeros(len(self), np.bool_)
        chosen_N[kept] = True
        return chosen_N

    def free_id(self, wanted: str | None) -> str:
        """`wanted`, or the first of `new-1`, `new-2`, ... that no item has.

        Raises MolarError: `wanted` is blank, or taken.
        """
        if wanted is None:
            return next(name for n in count(1) if (name := f"new-{n}") not in self._number)
        if not wanted.strip():
            raise MolarError("add_item: item_id is blank: give it characters, or leave it out for an id like new-1")
        if wanted in self._number:
            raise MolarError(f"add_item: there is an item {wanted!r} already: give the new one another item_id")
        return wanted

    def add(self, item: Items) -> None:
        """One more item, in memory; its id is a free one."""
        (item_id,), (title,) = item.item_ids, item.titles
        self._number[item_id] = len(self)
        self.item_ids.append(item_id)
        self.titles.append(title)
        self._added.append(item)
        self.__dict__.pop("_table", None)

    def _of(self, number: int) -> tuple[Items, int]:
        beyond = number - len(self.stored.item_ids)
        return (self.stored, number) if beyond < 0 else (self._added[beyond], 0)

    @cached_property
    def _table(self) -> pa.Table:
        parts = [self.stored, *self._added]
        attributes = [of for part in parts for of in part.attributes]
        added = len(self._added)
        counts_N = np.concatenate([self.sequences.training_counts(), np.zeros(added, np.int64)])
        table: dict[str, pa.Array] = {
            "item_id": pa.array(self.item_ids, pa.string()),
            "title": pa.array(self.titles, pa.string()),
            "text": pa.array([text for part in parts for text in part.texts], pa.string()),
            "cold": pa.array(np.arange(len(self)) >= self.sequences.num_warm),
            "interactions": pa.array(counts_N),
            "picture": pa.array(np.concatenate([part.has_image for part in parts])),
        }
        common = Counter(name for of in attributes for name in of).most_common(MOST_ATTRIBUTES)
        for name, _ in common:
            column = name
            while column in (*table, ROW, RANK, SCORE):
                column = f"attributes.{column}"
            table[column] = pa.array([of.get(name) for of in attributes], pa.string())
        return pa.table(table | {ROW: pa.array(np.arange(len(self)))})


def existing(folder: str | PathLike[str]) -> Path:
    """The folder, which must be there. Raises MolarError."""
    path = Path(folder)
    if not path.is_dir():
        raise MolarError(
            f"there is no folder {path}: give the `data` folder of a run, which `dvc repro` makes or `dvc pull` gets"
        )
    return path
