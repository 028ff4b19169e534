"""The run that a model card is of: its files read, and refused where they are not of one run.

Promise: metrics.json and params.yaml are those that dvc.lock records, and the standard errors belong to these metrics.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.artifacts import sha256
from pipeline.errors import MolarError
from pipeline.experiments import records
from pipeline.experiments.committed import Committed, WorkingTree
from pipeline.experiments.held_back import held_back
from pipeline.params import Params
from pipeline.params.load import parsed
from pipeline.report.saved_errors import Errors, saved_errors


@dataclass(frozen=True)
class Run:
    """What a card is written from."""

    params: Params
    values: dict[str, Any]  # params.yaml as it stands
    digest: str  # its SHA-256
    lock: dict[str, Any]  # dvc.lock's stages
    metrics: dict[str, Any]
    errors: Errors
    summary: dict[str, Any] | None  # of the catalogue; None where it is not at hand
    mirm: dict[str, Any] | None  # data/mirm/molar.json
    commit: str  # in words
    changed: int  # files of code that differ from those that made the run
    machine: Mapping[str, str] | None = None  # that put a record together, {} if it does not say; None: no record
    held_back: Mapping[str, str] = field(default_factory=dict)  # path of an out that is not published -> why

    @property
    def served(self) -> str:
        """The system that the index serves, by its name in metrics.json."""
        name = self.params.build_index.serve
        return f"{name}_index" if f"{name}_index" in self.metrics["test"] else name


def opened(root: Path, commit: str | None = None) -> Run:
    """The run at `root`, checked to be one. Raises MolarError."""
    asked = params.load_params(root / "params.yaml")
    lock, values, measured = one_run(root)
    metrics, headline = json.loads(measured), "masked" if asked.protocol.mask_seen else "unmasked"
    about = _json(root / records.ABOUT)
    commit = commit or (about["commit"] if about else None)
    same, other = _code(root, lock)
    return Run(
        asked,
        values,
        sha256(root / "params.yaml"),
        lock,
        metrics,
        saved_errors(root, metrics, headline),
        _json(root / ("summary.json" if about else "data/catalog/summary.json")),
        _json(root / "data/mirm/molar.json"),
        f"commit `{commit}`" if commit else _commit(root, same),
        len(other),
        about.get("machine", {}) if about else None,
    )


def one_run(root: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """dvc.lock's stages, params.yaml and metrics.json, checked to be of one run. Raises MolarError: they are not."""
    lock = parsed(_text(root / "dvc.lock"), str(root / "dvc.lock"))["stages"]
    values = parsed(_text(root / "params.yaml"), str(root / "params.yaml"))
    for stage, entry in lock.items():
        ran_with = entry.get("params", {}).get("params.yaml", {})
        if key := next((key for key, value in ran_with.items() if values.get(key.split(".")[0]) != value), None):
            raise MolarError(
                f"{root / 'params.yaml'}: {key} is not what {stage} ran with, as dvc.lock says: run `dvc repro`, or "
                "put the file back"
            )
    measured = _text(root / "metrics.json")
    outs = {out["path"]: out["md5"] for entry in lock.values() for out in entry["outs"]}
    if outs.get("metrics.json") != hashlib.md5(measured.encode(), usedforsecurity=False).hexdigest():
        raise MolarError(f"{root / 'metrics.json'} is not the one that dvc.lock records: run `dvc repro evaluate`")
    return lock, values, measured


def withheld(root: Path, run: Run) -> dict[str, str]:
    """Outs and raw data of the run at `root` that are not to be passed on, and why."""
    tree, head = WorkingTree(root), Committed(root)
    try:
        known = head.has("dvc.yaml") and head.has("params.yaml")
    except MolarError:  # no Git
        known = False
    of_run = {
        entry["path"] for stage in run.lock.values() for kind in ("outs", "deps") for entry in stage.get(kind, [])
    }
    held = held_back(run.values, head if known else tree, tree)
    return {path: why for path, why in held.items() if path in of_run}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise MolarError(f"{path} not found: a finished run has it, so `dvc repro` comes first") from None


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _code(root: Path, lock: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Files of code at `root` that are those that dvc.lock records, and those that are others; none in a record."""
    recorded = {dep["path"]: dep["md5"] for entry in lock.values() for dep in entry.get("deps", [])}
    same: list[str] = []
    other: list[str] = []
    for path, md5 in recorded.items():
        if path.endswith(".py") and (root / path).is_file():
            found = hashlib.md5((root / path).read_bytes(), usedforsecurity=False).hexdigest()
            (same if found == md5 else other).append(path)
    return same, other


def _commit(root: Path, code: Sequence[str]) -> str:
    """The commit at `root` in words, and how much of the `code` that made the run it does not have."""
    sha = _git(root, "rev-parse", "HEAD")
    if sha is None:
        return "commit unknown, there is no Git repository"
    told = f"commit `{sha.strip()}`"
    asked = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *code)
    count = len((_git(root, *asked) or "").split("\0")) - 1 if code else 0
    return f"{told} with {count} uncommitted file{'s' * (count > 1)}" if count else told


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=root, check=False, capture_output=True, text=True)
    return None if done.returncode else done.stdout
