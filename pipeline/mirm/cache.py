"""The per-item cache: what was embedded once, by this model from these inputs, is never computed again.

One SQLite file per model and way of embedding, under `$MOLAR_CACHE` (default: `embeddings` in the scratch root). It
maps a digest of an item's prompt and picture to its float32 vector; every batch is one transaction, so a killed run
loses at most one batch. Content decides, not item indices: a grown catalogue computes only what is new.

A cache is used when a run opens it, and its file's time says when that was. `listing` and `prune` look at caches as
wholes: an item that left the catalogue keeps its vector for as long as its cache is in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.checkpoints import scratch_root
from pipeline.errors import MolarError

KEYS_PER_QUERY = 500  # under SQLite's bound on variables
BUSY_SECONDS = 60  # to wait for a batch that another process is storing; it takes milliseconds
DAY_SECONDS = 86400
BESIDE = ("-wal", "-shm")  # files that SQLite keeps beside an open database


def cache_root() -> Path:
    """`$MOLAR_CACHE`, else `embeddings` in the scratch root."""
    named = os.environ.get("MOLAR_CACHE")
    return Path(named).absolute() if named else scratch_root() / "embeddings"


def scope(**parts: str | int | dict[str, str]) -> str:
    """Name of a cache: digest of everything that all its vectors share (weights, precision, library versions)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def item_key(prompt: Sequence[int], image: bytes | None) -> bytes:
    """Digest of one item's token ids (its picture's place excluded) and the bytes of its picture, None: not shown."""
    digest = hashlib.sha256(np.asarray(prompt, np.int64).tobytes())
    if image is not None:
        digest.update(b"image" + image)
    return digest.digest()


class Cache:
    """Vectors of D float32 by key."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return size_of(self._path)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The known ones among `keys`."""
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            found |= {key: np.frombuffer(vector, np.float32) for key, vector in self._connection.execute(query, some)}
        return found

    def add(self, keys: Sequence[bytes], vectors_BD: np.ndarray) -> None:
        """Remember a batch, as a whole or not at all."""
        rows = [(key, vector.tobytes()) for key, vector in zip(keys, vectors_BD.astype(np.float32), strict=True)]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


@contextmanager
def opened(name: str, about: str = "") -> Iterator[Cache]:
    """The cache called `name` (see `scope`), created if new. `about` tells people what is in it.

    Several processes of one machine may have it open. Raises MolarError if its file is damaged or kept locked.
    """
    path = cache_root() / f"{name}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS about (words TEXT)")
            connection.execute("DELETE FROM about")
            connection.execute("INSERT INTO about VALUES (?)", (about,))
        os.utime(path)  # used now, even if nothing is added
        yield Cache(connection, path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise MolarError(
                f"{path}: another process has kept the embedding cache locked for {BUSY_SECONDS} s: end it, or give "
                "this run a cache of its own (MOLAR_CACHE, on a disk of this machine)"
            ) from error
        raise MolarError(f"{path}: the embedding cache is damaged ({error}): delete this file and run again") from error
    finally:
        connection.close()


@dataclass(frozen=True)
class Listed:
    """One cache as `molar cache` shows it."""

    path: Path
    about: str
    items: int | None  # None: the file cannot be read
    size: int  # bytes, with the files beside it
    used: float  # seconds since the epoch

    def days_idle(self, now: float) -> float:
        return max(0.0, now - self.used) / DAY_SECONDS


def size_of(path: Path) -> int:
    """Bytes of a cache, with the files beside it."""
    return sum(part.stat().st_size for part in _files(path) if part.is_file())


def listing() -> list[Listed]:
    """Every cache under `cache_root()`, the latest used first. Changes nothing."""
    found = [_listed(path) for path in cache_root().glob("*.sqlite")]
    return sorted(found, key=lambda cache: (-cache.used, cache.path.name))


def prune(days: float, now: float | None = None) -> list[Listed]:
    """Remove the caches that no run has opened for `days` days; returns them. Nobody may be embedding meanwhile."""
    moment = time.time() if now is None else now
    old = [cache for cache in listing() if cache.days_idle(moment) >= days]
    for cache in old:
        for part in _files(cache.path):
            part.unlink(missing_ok=True)
    return old


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + suffix) for suffix in BESIDE)]


def _listed(path: Path) -> Listed:
    size, used = size_of(path), path.stat().st_mtime
    # A plain reader leaves files beside a cache at rest. Where they are (a run, or a killed one), they hold rows.
    how = "mode=ro" if _files(path)[1].exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True)) as connection:
            (items,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
            told = connection.execute("SELECT name FROM sqlite_master WHERE name = 'about'").fetchone()
            words = connection.execute("SELECT words FROM about").fetchone() if told else None
        return Listed(path, words[0] if words else "", items, size, used)
    except sqlite3.DatabaseError:
        return Listed(path, "damaged", None, size, used)
