"""Open what `ingest` wrote: items, every user's sequence with its split, and the queries of the evaluation.

Nothing here filters or reorders: `item_idx` is a row of the item table, `user` a row of `sequences.parquet`.
Items with index >= `num_warm` are cold: in no sequence, only in `open_cold`'s queries.

    sequences = open_sequences(artifacts.read(Path("data/catalog"), "ingest"))
    sequences.training(user=0)                      # int32 item indices, oldest first
    sequences.queries("test").histories(sequences)  # everything before each test item, validation item included
"""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.artifacts import Artifact

# Row groups of pictures kept in memory. A group holds build.ROW_GROUP items, so a shuffled reader of a small
# catalogue soon holds all of it, and a large one stays within some tens of megabytes.
CACHED_ROW_GROUPS = 64


@dataclass(frozen=True, eq=False)
class Sequences:
    """Every user's items in stable time order, flat; user u owns `offsets[u]:offsets[u + 1]`.

    `items[:train_end]` of a user is training, `[train_end:valid_end]` validation, `[valid_end:]` test. A split by time
    may leave users without training items (train_end 0); leave-one-out does not.
    """

    user_ids: list[str]
    items: np.ndarray  # (T,) int32
    timestamps: np.ndarray  # (T,) int64
    offsets: np.ndarray  # (U + 1,) int64
    train_end: np.ndarray  # (U,) int32, counted from the user's first item
    valid_end: np.ndarray  # (U,) int32
    num_items: int
    num_warm: int

    def __len__(self) -> int:
        return len(self.user_ids)

    def history(self, user: int, end: int | None = None) -> np.ndarray:
        """The user's first `end` items (None: all of them), int32, a view."""
        start, stop = self.offsets[user], self.offsets[user + 1]
        return self.items[start : stop if end is None else min(start + end, stop)]

    def training(self, user: int) -> np.ndarray:
        """The user's training items, int32, a view."""
        return self.history(user, int(self.train_end[user]))

    def training_counts(self) -> np.ndarray:
        """(num_items,) int64: interactions per item, in training parts only."""
        lengths_U = np.diff(self.offsets)
        position_T = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], lengths_U)
        in_training_T = position_T < np.repeat(self.train_end, lengths_U)
        return np.bincount(self.items[in_training_T], minlength=self.num_items)

    def queries(self, part: Literal["validation", "test"]) -> Queries:
        """One query per item of the part: predict it from everything before it. Ordered by user, then time.

        A user's first item is never asked: there is nothing to predict it from.
        """
        lengths_U = np.diff(self.offsets)
        part_start_U = self.train_end if part == "validation" else self.valid_end
        first_U = np.maximum(part_start_U, 1)
        count_U = np.maximum((self.valid_end if part == "validation" else lengths_U) - first_U, 0)
        user_Q = np.repeat(np.arange(len(self), dtype=np.int32), count_U)
        within_Q = np.arange(len(user_Q)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
        end_Q = (first_U[user_Q] + within_Q).astype(np.int32)
        return Queries(user_Q, end_Q, self.items[self.offsets[user_Q] + end_Q])


@dataclass(frozen=True, eq=False)
class Queries:
    """Q next-item questions: after the first `end[q]` items of user `user[q]`, what comes? `target[q]` did."""

    user: np.ndarray  # (Q,) int32
    end: np.ndarray  # (Q,) int32
    target: np.ndarray  # (Q,) int32

    def __len__(self) -> int:
        return len(self.user)

    def histories(self, sequences: Sequences, max_history: int | None = None) -> list[np.ndarray]:
        """For each query the items before it, oldest first, at most the `max_history` latest; int32 views."""
        histories = [sequences.history(int(u), int(e)) for u, e in zip(self.user, self.end, strict=True)]
        return histories if max_history is None else [h[max(len(h) - max_history, 0) :] for h in histories]


def open_sequences(artifact: Artifact) -> Sequences:
    """`sequences.parquet`. Raises MolarError if the file is missing or differs from its manifest."""
    table = pq.ParquetFile(artifact.file("sequences.parquet")).read().combine_chunks()  # read_table imports pandas
    items, timestamps = _only_chunk(table, "items"), _only_chunk(table, "timestamps")
    return Sequences(
        user_ids=table["user_id"].to_pylist(),
        items=items.flatten().to_numpy(),
        timestamps=timestamps.flatten().to_numpy(),
        offsets=items.offsets.to_numpy().astype(np.int64) - items.offsets[0].as_py(),
        train_end=table["train_end"].to_numpy(),
        valid_end=table["valid_end"].to_numpy(),
        num_items=int(table.schema.metadata[b"num_items"]),
        num_warm=int(table.schema.metadata[b"num_warm"]),
    )


def open_cold(artifact: Artifact) -> Queries:
    """`cold.parquet`: the held-out choices of cold items, asked like any other query."""
    table = pq.ParquetFile(artifact.file("cold.parquet")).read()
    return Queries(table["user_idx"].to_numpy(), table["end"].to_numpy(), table["item_idx"].to_numpy())


def _only_chunk(table: pa.Table, name: str) -> pa.ListArray:
    """A column as one array; `combine_chunks` leaves at most one chunk, and none for a table without rows."""
    column = table[name]
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


class Items:
    """The item table in `item_idx` order: words in memory, pictures read on demand, one row group at a time.

    Parts are memory-mapped and read without Arrow's thread pool, so that data-loading processes may be forked
    from a process that holds one (a shared file offset or a pool without threads would break them).
    """

    def __init__(self, parts: list[Path]) -> None:
        self._files = [pq.ParquetFile(part, memory_map=True) for part in parts]
        words = ["item_id", "title", "text", "caption", "summary", "attributes", "image.path"]
        table = pa.concat_tables([file.read(columns=words, use_threads=False) for file in self._files])
        self.item_ids: list[str] = table["item_id"].to_pylist()
        self.titles: list[str | None] = table["title"].to_pylist()
        self.texts: list[str | None] = table["text"].to_pylist()
        self.captions: list[str | None] = table["caption"].to_pylist()
        self.summaries: list[str | None] = table["summary"].to_pylist()
        self.attributes: list[dict[str, str]] = [
            {pair["key"]: pair["value"] for pair in pairs or ()} for pairs in table["attributes"].to_pylist()
        ]
        self.has_image = np.array([picture is not None for picture in table["image"].to_pylist()], dtype=np.bool_)
        self._groups: list[tuple[int, int]] = []  # (file, row group) of the g-th row group of all
        first = [0]  # item_idx at which the g-th row group starts
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                self._groups.append((number, group))
                first.append(first[-1] + file.metadata.row_group(group).num_rows)
        self._first = np.array(first)
        self._cache: OrderedDict[int, list[dict[str, bytes] | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.item_ids)

    def image_bytes(self, idx: int) -> bytes | None:
        """The encoded picture (JPEG or PNG) of an item, None if it has none."""
        if not self.has_image[idx]:
            return None
        group = int(np.searchsorted(self._first, idx, side="right")) - 1
        picture = self._pictures(group)[idx - int(self._first[group])]
        return None if picture is None else picture["bytes"]

    def image(self, idx: int) -> Image.Image | None:
        """The picture of an item, RGB, None if it has none."""
        encoded = self.image_bytes(idx)
        return None if encoded is None else Image.open(io.BytesIO(encoded)).convert("RGB")

    def _pictures(self, group: int) -> list[dict[str, bytes] | None]:
        if group not in self._cache:
            number, row_group = self._groups[group]
            table = self._files[number].read_row_group(row_group, columns=["image.bytes"], use_threads=False)
            self._cache[group] = table["image"].to_pylist()
            if len(self._cache) > CACHED_ROW_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group]


def open_items(artifact: Artifact) -> Items:
    """`items/part-*.parquet`. Raises MolarError if a part is missing or differs from its manifest."""
    return Items([artifact.file(name) for name in artifact.names if name.startswith("items/")])
