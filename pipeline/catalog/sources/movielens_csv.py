"""The CSV editions of MovieLens (20M, 25M, 32M, latest, latest-small): UTF-8, a header, quotes where commas need them.

    ratings.csv  userId,movieId,rating,timestamp        ratings from 0.5 to 5
    movies.csv   movieId,title,genres                   genre|genre, or "(no genres listed)"
    tags.csv     userId,movieId,tag,timestamp           optional

Tags are users' words of all times, those after a test interaction included, so they may tell the future: that a film
is tagged at all, and how. The choice is a fixed one: spellings are compared in lower case and counted by user; a tag
counts from its second user on, because one user's words on a film would give away that user's held-out choice; the
TAGS most frequent are kept, equals in alphabetical order. Remove tags.csv from the raw folder to go without.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions
from pipeline.catalog.sources.events import read_interactions
from pipeline.catalog.sources.items import require
from pipeline.catalog.sources.rows import read_delimited

FILES = ("ratings.csv", "movies.csv")
TAGS_FILE = "tags.csv"
TAGS = 5  # a film
TAG_USERS = 2  # who say so, at least
ADVICE = "unpack the archive again"


def is_ratings(path: Path) -> bool:
    """Whether a file opens with the header of ratings.csv: other data sets may have a file of that name."""
    with path.open("rb") as file:
        return file.readline(100).removeprefix(b"\xef\xbb\xbf").startswith(b"userId,movieId,rating")


def ratings(path: Path, quarantine: Quarantine) -> tuple[Interactions, int]:
    """The ratings, and how many rows were read. Raises MolarError as `read_interactions` does."""
    return read_interactions(path, ("userId", "movieId", "timestamp", "rating"), quarantine)


def movies(path: Path, quarantine: Quarantine) -> tuple[list[tuple[int, str, str, list[str]]], int]:
    """(row, movie id, title as written, genres) of each movie, and how many rows were read.

    Raises MolarError if the file is empty, not UTF-8 or lacks a column.
    """
    table, row, read = read_delimited(path, path.read_bytes(), quarantine, delimiter=",", names=None)
    require(path, table.column_names, ("movieId", "title", "genres"), ADVICE)
    ids, titles, genres = (table[name].to_pylist() for name in ("movieId", "title", "genres"))
    split = [names.split("|") for names in genres]
    return list(zip(row.tolist(), ids, titles, split, strict=True)), read


def tags(path: Path, quarantine: Quarantine) -> tuple[dict[str, str], int]:
    """Movie id -> its tags, most frequent first, joined by commas; and how many rows were read.

    Raises MolarError if the file is empty, not UTF-8 or lacks a column.
    """
    table, row, read = read_delimited(path, path.read_bytes(), quarantine, delimiter=",", names=None)
    require(path, table.column_names, ("userId", "movieId", "tag"), ADVICE)
    tag = pc.utf8_lower(pc.utf8_trim_whitespace(table["tag"]))
    blank = pc.equal(tag, "")
    rows = row[blank.to_numpy()]
    quarantine.add_rows(path.name, rows, "tag is empty", table["tag"].filter(blank).to_pylist())
    said = pa.table({"user": table["userId"], "movie": table["movieId"], "tag": tag}).filter(pc.invert(blank))
    users = said.group_by(["movie", "tag"]).aggregate([("user", "count_distinct")])
    shared = users.filter(pc.greater_equal(users["user_count_distinct"], TAG_USERS))
    shared = shared.sort_by([("user_count_distinct", "descending"), ("tag", "ascending")])
    found: dict[str, list[str]] = {}
    for movie, words in zip(shared["movie"].to_pylist(), shared["tag"].to_pylist(), strict=True):
        found.setdefault(movie, []).append(words)
    return {movie: ", ".join(words[:TAGS]) for movie, words in found.items()}, read
