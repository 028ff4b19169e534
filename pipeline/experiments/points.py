"""A table as points: row x data set x seed, each a whole params.yaml of its own, and the address of its result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import MolarError
from pipeline.experiments.committed import Committed
from pipeline.experiments.table import Table, path_of
from pipeline.params import check
from pipeline.params.document import apply, override, parse, plain, read, text_of

PRESETS = Path("presets")
MOST_SEEDS = 20  # that are looked for where none are named


@dataclass(frozen=True)
class Point:
    """One run of the pipeline. Points with one address are one run, whatever their rows are called."""

    row: str
    data: str
    seed: int
    document: Any  # params.yaml of its row, comments kept and the seed not yet set
    values: dict[str, Any]  # the same as plain values
    address: str  # <digest of code>-<digest of params>

    @property
    def text(self) -> str:
        """Of its params.yaml."""
        document = deepcopy(self.document)
        document["seed"] = self.seed
        return text_of(document)

    @property
    def raw(self) -> str:
        """The folder that it ingests."""
        return str(self.values["ingest"]["path"])

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}"


def points_of(
    name: str, table: Table, committed: Committed, data: str, seeds: Sequence[int], only: Iterable[str] = ()
) -> list[Point]:
    """The points of one data set, all rows of the first seed first. Raises MolarError: names and keys nothing has."""
    chosen = chosen_rows(name, table, data, only)
    base = _of_data(name, table, committed, data)
    rows = [_points(name, table, committed, base, row, data, seeds) for row in chosen]
    return [point for of_seed in zip(*rows, strict=True) for point in of_seed]


def chosen_rows(name: str, table: Table, data: str, only: Iterable[str] = ()) -> list[str]:
    """Rows of the table that apply to `data`; of `only` them, where there are any."""
    if data not in table.data:
        raise MolarError(f"{path_of(name)} has no data set {data!r} (there are: {', '.join(table.data)})")
    rows, wanted = table.rows_of(data), list(only)
    for row in wanted:
        if row not in table.rows:
            raise MolarError(f"{path_of(name)} has no row {row!r} (there are: {', '.join(table.rows)})")
        if row not in rows:
            raise MolarError(f"{path_of(name)}: the row {row!r} does not apply to the data set {data!r}")
    return [row for row in rows if row in wanted] if wanted else rows


def _of_data(name: str, table: Table, committed: Committed, data: str) -> Any:
    """The committed params for one data set."""
    document = parse(committed.text("params.yaml"), "params.yaml")
    where, of_data = path_of(name), table.data[data]
    if of_data.preset:
        preset = PRESETS / f"{of_data.preset}.yaml"
        if not preset.is_file():
            raise MolarError(f"{where}: data.{data}.preset = {of_data.preset!r}, and there is no {preset}")
        apply(document, read(preset))
    for key, value in of_data.set.items():
        override(document, key, value, f"{where}: data.{data}.set")
    path = document["ingest"]["path"]
    if of_data.path and path != of_data.path:
        raise MolarError(
            f"{where}: data.{data} is {of_data.path}, and the committed params.yaml ingests {path}: choose another "
            f"data set by --data, or commit params.yaml with ingest.path = {of_data.path} again"
        )
    return document


def _points(
    name: str, table: Table, committed: Committed, base: Any, row: str, data: str, seeds: Sequence[int]
) -> list[Point]:
    """One row's points, over `base` alone: nothing of its neighbours."""
    document, where = deepcopy(base), path_of(name)
    sets = table.rows[row]
    for part, keys in (("set", sets.set), (f"on.{data}", sets.on.get(data, {}))):
        for key, value in keys.items():
            override(document, key, value, f"{where}: rows.{row}.{part}")
    values = plain(document)
    check(values, f"{where}: row {row} on {data}")
    code = committed.code_digest(values)
    points = []
    for seed in seeds:
        seeded = values | {"seed": seed}
        points.append(Point(row, data, seed, document, seeded, f"{code}-{committed.params_digest(seeded)}"))
    return points


def lacking(table: Table, row: str, data: str, root: Path) -> dict[str, str]:
    """Folders that must be filled before the row can be computed, and what with."""
    needs = table.data[data].needs | table.rows[row].needs
    return {
        folder: what
        for folder, what in needs.items()
        if not ((root / folder).is_dir() and any((root / folder).iterdir()))
    }
