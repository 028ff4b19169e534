"""Source `movielens`: the unpacked GroupLens archives, MovieLens-1M or MovieLens-100K.

    1M    ratings.dat  user::item::rating::timestamp        movies.dat  id::title (year)::genre|genre   (latin-1)
    100K  u.data       user TAB item TAB rating TAB time    u.item      id|title (year)|...|19 flags    (latin-1)

Optional beside either: `images/<movie id>.jpg` (posters) and `movies_extrainfos.dat` (UTF-8, 11 fields
`id::title::year::rated::released::genres::director::writers::actors::plot::poster url`, from OMDb through MeLU).
An item's text is its plot; its attributes are genres, year and director. Posters carry no caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw, RawItem
from pipeline.catalog.sources.events import of_table
from pipeline.catalog.sources.rows import read_delimited
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest

COLUMNS = ["user", "item", "rating", "timestamp"]
EXTRAS = "movies_extrainfos.dat"
EXTRA_FIELDS, DIRECTOR, PLOT = 11, 6, 9
FIRST_FLAG = 5  # of u.item; one column per line of u.genre follows
NOTHING = {"", "N/A", "unknown"}


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """Ratings and movies. Raises MolarError if the folder holds neither edition."""
    if (root / "ratings.dat").is_file() and (root / "movies.dat").is_file():
        ratings, movies, delimiter = root / "ratings.dat", root / "movies.dat", b"::"
        genres: list[str] | None = None
    elif all((root / name).is_file() for name in ("u.data", "u.item", "u.genre")):
        ratings, movies, delimiter = root / "u.data", root / "u.item", b"\t"
        genres = [line.split("|")[0] for line in (root / "u.genre").read_text("latin-1").split("\n") if line.strip()]
    else:
        raise MolarError(
            f"{root} holds neither ratings.dat and movies.dat (MovieLens-1M) nor u.data, u.item and u.genre "
            f"(MovieLens-100K): point ingest.path at the unpacked archive"
        )
    content = ratings.read_bytes()
    if delimiter != b"\t":
        if b"\t" in content:  # it would become a separator below
            raise MolarError(f"{ratings} holds a TAB: MovieLens-1M separates fields by '::' alone, unpack it again")
        content = content.replace(delimiter, b"\t")
    table, row, ratings_read = read_delimited(ratings, content, quarantine, delimiter="\t", names=COLUMNS)
    events = of_table(table, row, ratings.name, ("user", "item", "timestamp", "rating"), quarantine)
    rows_read = {ratings.name: ratings_read}
    directors: dict[str, str] = {}
    plots: dict[str, str] = {}
    if (root / EXTRAS).is_file():
        directors, plots, rows_read[EXTRAS] = _extras(root / EXTRAS, quarantine)
    posters = {path.stem: f"images/{path.name}" for path in sorted((root / "images").glob("*.jpg"))}
    items: dict[str, RawItem] = {}
    rows_read[movies.name] = 0
    for number, line in _lines(movies, "latin-1"):
        rows_read[movies.name] += 1
        movie = _movie(number, line, genres)
        if movie is None:
            quarantine.add(movies.name, number, "wrong number of fields", line)
        elif movie.item_id in items:
            quarantine.add(movies.name, number, "item id stands in an earlier row too", movie.item_id)
        else:
            director = {"director": directors[movie.item_id]} if movie.item_id in directors else {}
            items[movie.item_id] = replace(
                movie,
                text=plots.get(movie.item_id),
                attributes=movie.attributes | director,
                image=posters.get(movie.item_id),
            )
    return Raw(
        root=root,
        items=list(items.values()),
        interactions=events,
        items_file=movies.name,
        interactions_file=ratings.name,
        rows_read=rows_read,
    )


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) but for blank lines. Plots hold odd line separators: only a line feed counts."""
    for number, line in enumerate(path.read_bytes().decode(encoding).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _movie(number: int, line: str, flags: list[str] | None) -> RawItem | None:
    """What a line says, of u.item if `flags` (the genres) are given, else of movies.dat; None if it is malformed."""
    if flags is None:
        item_id, *words, names = line.split("::")
        if not words:
            return None
        title, genres = "::".join(words), names.split("|")
    else:
        fields = line.split("|")
        if len(fields) != FIRST_FLAG + len(flags):
            return None
        item_id, title = fields[:2]
        genres = [flag for flag, value in zip(flags, fields[FIRST_FLAG:], strict=True) if value == "1"]
    name, year = _title_and_year(title)
    attributes = {"genres": ", ".join(genre for genre in genres if genre not in NOTHING), "year": year}
    return RawItem(item_id, number, name, attributes={key: value for key, value in attributes.items() if value})


def _title_and_year(title: str) -> tuple[str | None, str | None]:
    """The words as one says them and the year: `Fugitive, The (1993)` gives `The Fugitive` and `1993`."""
    name, year = title.strip(), None
    if match := re.fullmatch(r"(.*?)\s*\((\d{4})\)\s*(\(V\))?", name):
        name, year = match[1], match[2]
    if match := re.fullmatch(r"(.+?), (The|A|An)( \(.+\))?", name):
        name = f"{match[2]} {match[1]}{match[3] or ''}"
    return (None if name in NOTHING else name), year


def _extras(path: Path, quarantine: Quarantine) -> tuple[dict[str, str], dict[str, str], int]:
    """Directors and plots by movie id, and how many rows were read."""
    directors, plots, read = {}, {}, 0
    try:
        for number, line in _lines(path, "utf-8"):
            read += 1
            fields = line.split("::")
            if len(fields) < EXTRA_FIELDS:
                quarantine.add(path.name, number, "wrong number of fields", line)
                continue
            director, plot = fields[DIRECTOR].strip(), "::".join(fields[PLOT:-1]).strip()  # a plot may hold '::'
            if director not in NOTHING:
                directors[fields[0]] = director
            if plot not in NOTHING:
                plots[fields[0]] = plot
    except UnicodeDecodeError:
        raise MolarError(f"{path} is not UTF-8: convert it, or remove it to go without plots") from None
    return directors, plots, read
