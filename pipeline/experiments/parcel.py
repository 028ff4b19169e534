"""A record as it travels: its files, what the run-cache says of its stages, and what was held back.

metrics.json  per_user.parquet  params.yaml  dvc.lock  record.json     the record (records.py), byte for byte
summary.json     where it has one
README.md        its model card; records that were sent before there were cards have none
shared.json      runs: path below DVC's cache -> content; held_back: path of an out -> why it was not sent
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import MolarError
from pipeline.experiments import records
from pipeline.experiments.cache import Cache, run_key
from pipeline.experiments.committed import Committed
from pipeline.experiments.refs import NAMESPACE

SHARED = "shared.json"


@dataclass
class Parcel:
    address: str
    record: dict[str, bytes]
    outs: dict[str, str]  # path -> digest of each that dvc.lock names, raw data that has a .dvc file included
    held_back: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> set[str]:
        return {digest for path, digest in self.outs.items() if path not in self.held_back}

    @property
    def commit(self) -> str:
        """That the record was computed from."""
        return json.loads(self.record[records.ABOUT])["commit"]

    @property
    def files(self) -> dict[str, bytes]:
        shared = json.dumps({"held_back": self.held_back, "runs": self.runs}, indent=1, sort_keys=True)
        return self.record | {SHARED: shared.encode()}

    def same(self, other: Parcel) -> bool:
        """Whether the runs came out the same; how long they took may differ."""
        return all(self.record[name] == other.record[name] for name in records.NAMES)

    def note_runs(self, cache: Cache) -> None:
        """Take along what the run-cache has."""
        for stage in _lock(self.record)["stages"].values():
            for path in cache.runs(_key(stage)):
                text = path.read_text("utf-8")
                if _outs({"stages": {"": YAML(typ="safe").load(text)}}).items() <= self.outs.items():
                    self.runs[path.relative_to(cache.folder).as_posix()] = text

    def put_runs(self, cache: Cache) -> None:
        """Give the run-cache what it does not have, of this record's stages alone."""
        keys = {_key(stage) for stage in _lock(self.record)["stages"].values()}
        for name, text in self.runs.items():
            path = cache.folder / name
            if path.parent.name in keys and path.parent.parent.parent == cache.folder / "runs" and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.partial")
                partial.write_text(text, "utf-8")
                partial.rename(path)


def of_record(folder: Path, committed: Committed) -> Parcel:
    """A record of this checkout. Raises MolarError: it is damaged."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return _checked(folder.name, files, committed, f"delete {folder} and run the row again: it comes from the cache")


def of_files(address: str, files: Mapping[str, bytes], committed: Committed | None = None) -> Parcel:
    """One that has arrived, of code that `committed` knows if given. Raises MolarError: it is damaged."""
    what_to_do = f"whoever computed it pushes it again after `git push REMOTE :{NAMESPACE}{address}`"
    found = _checked(address, files, committed, what_to_do)
    try:
        shared = json.loads(files[SHARED])
        found.held_back, found.runs = dict(shared["held_back"]), dict(shared["runs"])
    except (KeyError, ValueError, TypeError):
        raise MolarError(f"the record {address} has no {SHARED} that can be read: {what_to_do}") from None
    return found


def _checked(address: str, files: Mapping[str, bytes], committed: Committed | None, what_to_do: str) -> Parcel:
    problem = records.damage(files)
    try:
        if not problem:
            names = (*records.NAMES, records.ABOUT, *records.NAMES_IF_MADE, records.CARD)
            record = {name: files[name] for name in names if name in files}
            lock = _lock(record)
            outs = _outs(lock) | (_raw(lock, committed) if committed else {})
            params = YAML(typ="safe").load(record["params.yaml"])
            if committed and committed.params_digest(params) != address.rpartition("-")[2]:
                problem = "has a params.yaml of another run"
    except (ValueError, TypeError, AttributeError, KeyError, YAMLError):
        problem = "holds a file that cannot be read"
    if problem:
        raise MolarError(f"the record {address} {problem}: {what_to_do}")
    return Parcel(address, record, outs)


def _lock(record: Mapping[str, bytes]) -> dict[str, Any]:
    return YAML(typ="safe").load(record["dvc.lock"])


def _outs(lock: Mapping[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def _raw(lock: Mapping[str, Any], committed: Committed) -> dict[str, str]:
    """Deps that `dvc add` has made known."""
    deps = [dep for stage in lock["stages"].values() for dep in stage.get("deps", [])]
    return {dep["path"]: dep["md5"] for dep in deps if f"{dep['path']}.dvc" in committed.blobs}


def _key(stage: Mapping[str, Any]) -> str:
    deps = {dep["path"]: dep.get("md5") for dep in stage.get("deps", [])}
    params = stage.get("params", {}).get("params.yaml", {})
    return run_key(stage["cmd"], deps, params, [out["path"] for out in stage.get("outs", [])])
