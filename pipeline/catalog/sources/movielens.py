"""Source `movielens`: the unpacked GroupLens archives.

    1M, 10M  ratings.dat  user::item::rating::timestamp        movies.dat  id::title (year)::genre|genre
    100K     u.data       user TAB item TAB rating TAB time    u.item      id|title (year)|...|19 flags
    20M, 25M, 32M, latest, latest-small                        the CSV editions: see movielens_csv.py

1M and 100K are latin-1, all others UTF-8; 10M's tags.dat is not read, nor links and genomes of the CSV editions.
Optional beside any: `images/<movie id>.jpg` (posters; or images.zip, images.tar) and `movies_extrainfos.dat` (UTF-8, 11
fields `id::title::year::rated::released::genres::director::writers::actors::plot::poster url`, from OMDb through MeLU).
An item's text is its plot; its attributes are genres, year, director and, of CSV editions, the users' tags. Posters
carry no caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.catalog.sources import movielens_csv
from pipeline.catalog.sources.events import Layout, read_interactions
from pipeline.catalog.sources.items import distinct
from pipeline.catalog.sources.pictures import pictures_beside
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest

NEEDS = "ratings.dat and movies.dat (1M, 10M), u.data, u.item and u.genre (100K), or ratings.csv and movies.csv (later)"
DOUBLE_COLON = ("ratings.dat", "movies.dat")
HUNDRED_THOUSAND = ("u.data", "u.item", "u.genre")
COLUMNS = ["user", "item", "rating", "timestamp"]
EXTRAS = "movies_extrainfos.dat"
EXTRA_FIELDS, DIRECTOR, PLOT = 11, 6, 9
FIRST_FLAG = 5  # of u.item; one column per line of u.genre follows
NOTHING = {"", "N/A", "unknown", "(no genres listed)"}

Line = tuple[int, str, str, list[str]]  # row, movie id, title as written, genres


def recognises(root: Path) -> str | None:
    """The edition that the folder holds, in words; None if it holds none."""
    files = _edition(root)
    if files is None or (files == movielens_csv.FILES and not movielens_csv.is_ratings(root / files[0])):
        return None
    dat = "MovieLens 10M" if (root / "tags.dat").is_file() else "MovieLens 1M"
    names = {DOUBLE_COLON: dat, HUNDRED_THOUSAND: "MovieLens 100K", movielens_csv.FILES: "MovieLens as CSV"}
    return f"{names[files]} ({', '.join(files)})"


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """Ratings and movies. Raises MolarError if the folder holds no edition, or a file of it is damaged."""
    files = _edition(root)
    if files is None:
        raise MolarError(f"{root} is no MovieLens: it needs {NEEDS}: point ingest.path at the unpacked archive")
    ratings, movies = root / files[0], root / files[1]
    tags: dict[str, str] = {}
    directors: dict[str, str] = {}
    plots: dict[str, str] = {}
    rows_read: dict[str, int] = {}
    if files == movielens_csv.FILES:
        events, rows_read[ratings.name] = movielens_csv.ratings(ratings, quarantine)
        lines, rows_read[movies.name] = movielens_csv.movies(movies, quarantine)
        tags_path = root / movielens_csv.TAGS_FILE
        if tags_path.is_file():
            tags, rows_read[tags_path.name] = movielens_csv.tags(tags_path, quarantine)
    else:
        events, rows_read[ratings.name] = _ratings(ratings, quarantine)
        lines, rows_read[movies.name] = _movies(movies, quarantine)
    if (root / EXTRAS).is_file():
        directors, plots, rows_read[EXTRAS] = _extras(root / EXTRAS, quarantine)
    posters, packed = pictures_beside(root, "images")
    items = []
    for row, item_id, title, genres in lines:
        name, year = _title_and_year(title)
        attributes = {
            "genres": ", ".join(genre for genre in genres if genre not in NOTHING),
            "year": year,
            "director": directors.get(item_id),
            "tags": tags.get(item_id),
        }
        items.append(
            RawItem(
                item_id=item_id,
                row=row,
                title=name,
                text=plots.get(item_id),
                attributes={key: value for key, value in attributes.items() if value},
                image=posters.get(item_id),
            )
        )
    return Raw(
        root=root,
        items=distinct(items, movies.name, quarantine),
        interactions=events,
        items_file=movies.name,
        interactions_file=ratings.name,
        rows_read=rows_read,
        pictures=packed,
    )


def _edition(root: Path) -> tuple[str, ...] | None:
    """The files of the edition in the folder, ratings and movies first."""
    for files in (DOUBLE_COLON, HUNDRED_THOUSAND, movielens_csv.FILES):
        if all((root / name).is_file() for name in files):
            return files
    return None


def _ratings(path: Path, quarantine: Quarantine) -> tuple[Interactions, int]:
    """The ratings of ratings.dat or u.data, and how many rows were read."""
    delimiter = "::" if path.name in DOUBLE_COLON else "\t"
    columns = "user", "item", "timestamp", "rating"
    return read_interactions(path, columns, quarantine, Layout(delimiter, COLUMNS))


def _movies(path: Path, quarantine: Quarantine) -> tuple[list[Line], int]:
    """The movies of movies.dat or u.item, and how many rows were read."""
    flags = None
    if path.name in HUNDRED_THOUSAND:
        genres = (path.parent / "u.genre").read_text("latin-1").split("\n")
        flags = [line.split("|")[0] for line in genres if line.strip()]
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # 100K and 1M; their accented letters are no UTF-8
        text = content.decode("latin-1")
    movies, read = [], 0
    for number, line in _lines(text):
        read += 1
        movie = _movie(number, line, flags)
        if movie is None:
            quarantine.add(path.name, number, "wrong number of fields", line)
        else:
            movies.append(movie)
    return movies, read


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) but for blank lines. Plots hold odd line separators: only a line feed counts."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _movie(number: int, line: str, flags: list[str] | None) -> Line | None:
    """What a line says, of u.item if `flags` (the genres) are given, else of movies.dat; None if it is malformed."""
    if flags is None:
        item_id, *words = line.split("::")
        return (number, item_id, "::".join(words[:-1]), words[-1].split("|")) if len(words) > 1 else None
    fields = line.split("|")
    if len(fields) != FIRST_FLAG + len(flags):
        return None
    genres = [flag for flag, value in zip(flags, fields[FIRST_FLAG:], strict=True) if value == "1"]
    return number, fields[0], fields[1], genres


def _title_and_year(title: str) -> tuple[str | None, str | None]:
    """The words as one says them and the first year: `Fugitive, The (1993)` gives `The Fugitive` and `1993`."""
    name, year = title.strip(), None
    if match := re.fullmatch(r"(.*?)\s*\((\d{4})(?:[-–](?:\d{4})?)?\)\s*(\(V\))?", name):
        name, year = match[1], match[2]
    if match := re.fullmatch(r"(.+?), (The|A|An)( \(.+\))?", name):
        name = f"{match[2]} {match[1]}{match[3] or ''}"
    return (None if name in NOTHING else name), year


def _extras(path: Path, quarantine: Quarantine) -> tuple[dict[str, str], dict[str, str], int]:
    """Directors and plots by movie id, and how many rows were read."""
    directors, plots, read = {}, {}, 0
    try:
        for number, line in _lines(path.read_bytes().decode("utf-8")):
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
