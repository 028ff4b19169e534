"""Source `tables`: your own data as two tables and their pictures.

    interactions.csv | .parquet | .jsonl   user, item, timestamp [, rating]
    items.csv | .parquet | .jsonl          id, title [, text] [, caption] [, summary] [, image] [, attributes ...]
    images/ | images.zip | images.tar      the files that the column `image` names; a url: see `molar download images`
    cold_items.txt                         optional: one item id a line (see ingest.cold_items)

`ingest.columns` names the columns; what it names must exist, what is set to null is not looked for. In Parquet the
column `image` may hold the pictures themselves.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog import archive, images
from pipeline.catalog.picture_column import PictureColumn, holds_pictures, names_of
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.catalog.sources import json_tables
from pipeline.catalog.sources.events import read_interactions, read_parquet
from pipeline.catalog.sources.items import require
from pipeline.catalog.sources.rows import as_text, damaged, header_of, read_delimited
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest, TablesColumns

FORMATS = (".csv", ".parquet", ".jsonl")
NEEDS = "interactions and items, each .csv, .parquet or .jsonl"


def recognises(root: Path) -> str | None:
    """The two tables, if both are there in one format or another; None if not."""
    found = [path for name in ("interactions", "items") for path in sorted(root.glob(f"{name}.*"))]
    tables = [path for path in found if path.suffix in FORMATS]
    if {path.stem for path in tables} != {"interactions", "items"}:
        return None
    return f"own tables ({', '.join(path.name for path in tables)})"


def read(root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
    """Both tables. Raises MolarError if a table or a named column is missing, or an archive of pictures is damaged."""
    columns = params.columns
    if params.min_rating is not None and columns.rating is None:
        raise MolarError(
            f"ingest.min_rating = {params.min_rating:g} needs ratings: name their column in ingest.columns.rating, "
            f"or set ingest.min_rating to null"
        )
    items, items_path, items_read = read_items(root, columns, quarantine)
    interactions_path = _find(root, "interactions")
    events, interactions_read = _interactions(interactions_path, columns, quarantine)
    pictures = None if columns.image is None else _pictures_in(items_path, columns.image) or archive.beside(root)
    return Raw(
        root=root,
        items=[_with_local_picture(root, item) for item in items],
        interactions=events,
        items_file=items_path.name,
        interactions_file=interactions_path.name,
        rows_read={interactions_path.name: interactions_read, items_path.name: items_read},
        pictures=pictures,
    )


def read_items(root: Path, columns: TablesColumns, quarantine: Quarantine) -> tuple[list[RawItem], Path, int]:
    """The item table alone: its items, its path, and how many rows were read. Raises MolarError as `read` does."""
    path = _find(root, "items")
    if path.suffix == ".jsonl":
        table, row, rows_read = json_tables.read_items(path, columns, quarantine)
    else:
        table, row, rows_read = _open(path, quarantine, _pictures_in(path, columns.image))
    return _items(table, row, path, columns, quarantine), path, rows_read


def _pictures_in(path: Path, image: str | None) -> PictureColumn | None:
    """The column of an item table that holds the pictures themselves, if it does."""
    if path.suffix != ".parquet" or image is None:
        return None
    schema = _schema(path)
    held = schema.names.count(image) == 1 and holds_pictures(schema.field(image).type)
    return PictureColumn(path, image) if held else None


def _with_local_picture(root: Path, item: RawItem) -> RawItem:
    """An url gives way to the file that `molar download images` made of it; without one it stays, and is not found."""
    if item.image is None or not images.is_url(item.image):
        return item
    return replace(item, image=images.downloaded(root, item.item_id) or item.image)


def _find(root: Path, name: str) -> Path:
    paths = [root / f"{name}{suffix}" for suffix in FORMATS]
    found = [path for path in paths if path.is_file()]
    if not found:
        names = ", ".join(path.name for path in paths)
        raise MolarError(f"{root} holds none of {names}: add one (source 'tables')")
    if len(found) > 1:
        raise MolarError(f"{root} holds both {' and '.join(path.name for path in found)}: keep one")
    return found[0]


def _interactions(path: Path, columns: TablesColumns, quarantine: Quarantine) -> tuple[Interactions, int]:
    """The readable interactions, and how many rows were read."""
    names = columns.user, columns.item, columns.timestamp, columns.rating
    wanted = dict(zip(("user", "item", "timestamp", "rating"), names, strict=True))
    if path.suffix == ".csv":
        _require(path, header_of(path, ","), wanted)
        return read_interactions(path, names, quarantine)
    if path.suffix == ".jsonl":
        events, rows_read, present = json_tables.read_interactions(path, names, quarantine)
        if present:  # or no line could be read, which quarantine says better
            _require(path, present, wanted)
        return events, rows_read
    _require(path, _schema(path).names, wanted)
    return read_parquet(path, names, quarantine)


def _open(
    path: Path, quarantine: Quarantine, pictures: PictureColumn | None = None
) -> tuple[pa.Table, np.ndarray, int]:
    """The table, the row number of each row, and how many rows were read; `pictures` by their names alone."""
    if path.suffix == ".csv":
        return read_delimited(path, path.read_bytes(), quarantine, delimiter=",", names=None)
    others = [name for name in _schema(path).names if pictures is None or name != pictures.name]
    with damaged(path):
        table = pq.ParquetFile(path).read(columns=others)
        if pictures is not None:
            table = table.append_column(pictures.name, pa.array(names_of(path, pictures.name), pa.string()))
        table.validate(full=True)  # Arrow reads what is not UTF-8 without a word
    return table, np.arange(table.num_rows, dtype=np.int64) + 1, table.num_rows


def _schema(path: Path) -> pa.Schema:
    with damaged(path):
        return pq.read_schema(path)


def _require(path: Path, present: list[str], wanted: dict[str, str | None]) -> None:
    """Every column that params name must be there; `wanted` maps the key in ingest.columns to the column's name."""
    for key, name in wanted.items():
        if name is not None:
            optional = key in ("rating", "text", "caption", "summary", "image")
            advice = f"correct ingest.columns.{key}" + (" or set it to null" if optional else "")
            require(path, present, [name], advice)


def _items(
    table: pa.Table, row: np.ndarray, path: Path, columns: TablesColumns, quarantine: Quarantine
) -> list[RawItem]:
    mapped = {
        "id": columns.id,
        "title": columns.title,
        "text": columns.text,
        "caption": columns.caption,
        "summary": columns.summary,
        "image": columns.image,
    }
    _require(path, table.column_names, mapped)
    _require(path, table.column_names, {f"attributes[{i}]": name for i, name in enumerate(columns.attributes)})
    attributes = columns.attributes or [name for name in table.column_names if name not in mapped.values()]

    def words(name: str | None) -> list[str | None]:
        """A column's values, empty ones as None; a column that is not mapped is None throughout."""
        if name is None:
            return [None] * table.num_rows
        return [value or None for value in as_text(table[name], f"{path}, column '{name}'").to_pylist()]

    fields = {key: words(name) for key, name in mapped.items()}
    attribute_values = {name: words(name) for name in attributes}
    items: dict[str, RawItem] = {}
    for i, item_id in enumerate(fields["id"]):
        if item_id is None:
            quarantine.add(path.name, row[i], "item id is empty", fields["title"][i])
        elif item_id in items:
            quarantine.add(path.name, row[i], "item id stands in an earlier row too", item_id)
        else:
            items[item_id] = RawItem(
                item_id=item_id,
                row=int(row[i]),
                title=fields["title"][i],
                text=fields["text"][i],
                caption=fields["caption"][i],
                summary=fields["summary"][i],
                attributes={name: value for name in attributes if (value := attribute_values[name][i]) is not None},
                image=fields["image"][i],
            )
    return list(items.values())
