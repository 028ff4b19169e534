"""Which stages a set of points will compute: those that DVC's run-cache does not have.

The run-cache keeps, under a digest of a stage's command, params, names of outs and contents of deps, what came out. So
a point is followed from stage to stage, the outs of one being the deps of the next, for as long as a run is found. What
follows a stage that must be computed is counted as well, although that stage may come out equal to a known one and save
the rest: the count is the most that will run. Equal work of several points counts once.

This reads DVC's files as version 3 writes them. If they ever look otherwise the count is too high and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.experiments.cache import Cache, run_key
from pipeline.experiments.clone import Clone, outs_of
from pipeline.experiments.committed import Committed, resolved
from pipeline.experiments.points import Point
from pipeline.params.document import leaf

Work = tuple[str, str]  # stage, digest of what it depends on


def forecast(points: Iterable[Point], committed: Committed, clone: Clone) -> set[Work]:
    """The distinct work that the points need and that nothing has done."""
    cache = RunCache(clone)
    return {work for point in points for work in pending(point, committed, cache)}


def pending(point: Point, committed: Committed, cache: RunCache) -> Iterator[Work]:
    """What one point needs and nothing has done, in the order of the work.

    The digest of the first is that of contents, for all that it depends on is there; those of the others may change
    once it has been done.
    """
    outs: dict[str, str] = {}  # path -> md5, or the digest of the work that will make it
    unmade: set[str] = set()  # paths of the second kind
    for name, stage in committed.stages.items():
        deps = {dep: cache.digest(dep, outs) for dep in (resolved(d, point.values) for d in stage.get("deps", []))}
        params = {key: leaf(point.values, key) for key in stage.get("params", [])}
        waits = [dep for dep in deps if any(_inside(dep, out) for out in unmade)]
        found = None if waits or None in deps.values() else cache.find(stage["cmd"], deps, params, outs_of(stage))
        if found is None:
            work = hashlib.sha256(json.dumps([name, deps, params], sort_keys=True).encode()).hexdigest()
            found = dict.fromkeys(outs_of(stage), work)
            unmade |= set(found)
            yield name, work
        outs |= found


class RunCache:
    """DVC's records of runs, and the contents that they name."""

    def __init__(self, clone: Clone) -> None:
        self._root = clone.root
        self._cache = Cache(clone.cache)
        self._known: dict[str, str | None] = {}  # of committed files, which do not change
        self._read: dict[Path, dict[str, str]] = {}  # outs of runs; a record of one is named by its content

    def find(
        self, cmd: str, deps: Mapping[str, str | None], params: Mapping[str, Any], outs: list[str]
    ) -> dict[str, str] | None:
        """md5 of each out of that run; None if there is no such run, or its outs are gone."""
        runs = self._cache.runs(run_key(cmd, deps, params, outs))
        if not runs:
            return None
        last = max(runs, key=lambda path: path.stat().st_mtime)
        if last not in self._read:
            run = YAML(typ="safe").load(last.read_text("utf-8"))
            self._read[last] = {out["path"]: out.get("md5", "") for out in run.get("outs", [])}
        found = self._read[last]
        return found if all(self._cache.whole(digest) for digest in found.values()) else None

    def digest(self, path: str, outs: Mapping[str, str]) -> str | None:
        """md5 of a dependency as DVC counts it: an out, a part of one, a committed file, raw data; None: unknown."""
        for out, digest in outs.items():
            if path == out:
                return digest
            if _inside(path, out):
                below = path.removeprefix(f"{out}/")
                return self._part(digest, below) or f"{digest}/{below}"  # of an out that is not made yet
        if path not in self._known:
            self._known[path] = self._committed(path)
        return self._known[path]

    def _committed(self, path: str) -> str | None:
        file, tracked = self._root / path, self._root / f"{path}.dvc"
        if tracked.is_file():
            return YAML(typ="safe").load(tracked.read_text("utf-8"))["outs"][0].get("md5")
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file.is_file() else None

    def _part(self, digest: str, below: str) -> str | None:
        """Of a file or folder in the directory that has this digest."""
        listed = self._cache.listing(digest)
        for entry in listed:
            if entry["relpath"] == below:
                return entry["md5"]
        inside = [
            {"md5": entry["md5"], "relpath": entry["relpath"].removeprefix(f"{below}/")}
            for entry in listed
            if entry["relpath"].startswith(f"{below}/")
        ]
        text = json.dumps(sorted(inside, key=lambda entry: entry["relpath"]), sort_keys=True)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir" if inside else None


def _inside(path: str, out: str) -> bool:
    return path == out or path.startswith(f"{out}/")
