"""Where a table's figures come from: commits, params, data, machines, read from the records of its runs alone.

No artifact of a run has to be there. What a record does not hold (those of earlier versions have no summary of the
catalogue and no machine) is left out, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from pipeline.experiments.board import clock
from pipeline.experiments.figures import Figures
from pipeline.params.document import parse, plain, word

DIGITS = 12  # of a digest that people read
INGEST = re.compile(r"^  ingest:\n(?: {4}.*\n)+", re.M)  # as DVC writes it
NONE = "the committed params as they stand"


@dataclass(frozen=True)
class Kept:
    """One run, as its record tells."""

    row: str
    seed: int
    address: str
    commit: str
    computed: int  # stages
    cached: int
    took: str  # to compute them


@dataclass(frozen=True)
class Change:
    """One param that a row sets, and its value in the row that the others are tested against."""

    key: str
    value: str
    reference: str | None  # None: that row has no record


@dataclass(frozen=True)
class Provenance:
    kept: list[Kept]
    changes: dict[str, list[Change]]  # of every row of the table
    data: dict[str, str]
    machine: dict[str, str]
    params: dict[str, str]  # row and seed -> the text of params.yaml: the reference's, or the first that is there

    @property
    def commits(self) -> list[str]:
        return list(dict.fromkeys(run.commit for run in self.kept))


def provenance(found: Figures) -> Provenance:
    """Of every record that the table's figures were read from."""
    folders = [folder for of_row in found.records.values() for folder in of_row.values()]
    order = sorted(found.records, key=lambda row: row != found.reference)  # stable: the reference, then the file's
    first = next(((row, *next(iter(found.records[row].items()))) for row in order), None)
    params = {f"{first[0]}, seed {first[1]}": (first[2] / "params.yaml").read_text("utf-8")} if first else {}
    reference = found.records.get(found.reference, {})
    theirs = _params(next(iter(reference.values()))) if reference else None
    return Provenance(
        kept=[_kept(row, seed, folder) for row, of in found.records.items() for seed, folder in of.items()],
        changes={
            row.row: [
                Change(key, word(value), word(_at(theirs, key)) if theirs else None)
                for key, value in found.table.overrides(row.row, found.data).items()
            ]
            for row in found.rows
        },
        data=_data(found, folders),
        machine=_machine(folders),
        params=params,
    )


def _kept(row: str, seed: int, folder: Path) -> Kept:
    about = json.loads((folder / "record.json").read_text("utf-8"))
    computed = [stage for stage in about["stages"] if stage["source"] == "computed"]
    cached = len(about["stages"]) - len(computed)
    took = clock(sum(stage["seconds"] for stage in computed)) if computed else ""
    return Kept(row, seed, folder.name, about["commit"], len(computed), cached, took)


def _params(folder: Path) -> Any:
    return plain(parse((folder / "params.yaml").read_text("utf-8"), str(folder / "params.yaml")))


def _at(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def _data(found: Figures, folders: list[Path]) -> dict[str, str]:
    """What was asked of whom, in words."""
    of_data = found.table.data[found.data]
    chosen = [f"preset {of_data.preset}"] if of_data.preset else []
    chosen += [f"{key} = {word(value)}" for key, value in of_data.set.items()]
    facts = {"data set": found.data, "its params": "; ".join(chosen) or NONE}
    if not folders:
        return facts
    table = pq.read_table(folders[0] / "per_user.parquet", columns=["item_idx", "history_length"])
    facts |= {
        "test queries": f"{found.queries:,}",
        "users asked": f"{found.users:,}",
        "different items to be found": f"{len(np.unique(table['item_idx'].to_numpy())):,}",
        "items of history, median": f"{np.median(table['history_length'].to_numpy()):g}",
    }
    if summary := next((path for folder in folders if (path := folder / "summary.json").is_file()), None):
        of = json.loads(summary.read_text("utf-8"))
        facts |= {
            "users": f"{of['split']['users']:,}",
            "items, warm and cold": f"{of['items']['warm']:,} + {of['items']['cold']:,}",
            "training interactions": f"{of['split']['training']:,}",
            "items with a picture": f"{of['items']['with_image']:,}",
        }
    ingests = dict.fromkeys(map(_ingest, folders))  # most often one
    return facts | {
        "raw data, DVC's digest": _one(_digest(ingest, "deps") for ingest in ingests),
        "catalogue, DVC's digest": _one(_digest(ingest, "outs") for ingest in ingests),
    }


def _ingest(folder: Path) -> str:
    """What dvc.lock says of `ingest`, as text: the whole is a thousand lines, seconds for a parser of every run's."""
    found = INGEST.search((folder / "dvc.lock").read_text("utf-8"))
    return found[0] if found else ""


def _digest(ingest: str, kind: str) -> str:
    """Of what `ingest` read (code apart) or made."""
    entries = (YAML(typ="safe").load(ingest) or {"ingest": {}})["ingest"].get(kind, [])
    return ", ".join(str(one.get("md5", "none"))[:DIGITS] for one in entries if not one["path"].endswith(".py"))


def _machine(folders: Iterable[Path]) -> dict[str, str]:
    """What put the records together; values that differ between them side by side."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        about = json.loads((folder / "record.json").read_text("utf-8"))
        for name, value in about.get("machine", {}).items():
            found.setdefault(name, []).append(value)
    return {name: _one(values) for name, values in found.items()}


def _one(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
