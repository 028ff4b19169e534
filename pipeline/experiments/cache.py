"""DVC's cache as version 3 lays it out: contents by their digest, and the record of each stage that has run.

files/md5/<2>/<30>             a file, or the listing (JSON) of a directory, whose digest ends in `.dir`
runs/<2>/<key>/<of content>    what came out of a stage, under a digest of its command, params, deps, names of outs
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cache:
    folder: Path

    def path(self, digest: str) -> Path:
        return self.folder / "files" / "md5" / digest[:2] / digest[2:]

    def listing(self, digest: str) -> list[dict[str, str]]:
        """Entries of a directory; none of a file, or of what is not there."""
        path = self.path(digest)
        return json.loads(path.read_text("utf-8")) if digest.endswith(".dir") and path.is_file() else []

    def files(self, digest: str) -> list[Path]:
        """Where a content lies, that of a directory with all that is in it."""
        return [self.path(digest), *(self.path(entry["md5"]) for entry in self.listing(digest))]

    def whole(self, digest: str) -> bool:
        return all(path.is_file() for path in self.files(digest))

    def runs(self, key: str) -> list[Path]:
        """Records of a stage's runs under one key; one that is being written is renamed from *.tmp once it is whole."""
        found = (self.folder / "runs" / key[:2] / key).glob("*")
        return [path for path in found if path.suffix != ".tmp" and path.is_file()]


def run_key(cmd: str, deps: Mapping[str, str | None], params: Mapping[str, Any], outs: list[str]) -> str:
    """The key under which the run-cache keeps a stage; `deps` by path."""
    entry: dict[str, Any] = {
        "cmd": cmd,
        "deps": [{"path": path, "hash": "md5", "md5": deps[path]} for path in sorted(deps)],
        "outs": sorted(outs),
    }
    if not deps:
        del entry["deps"]
    if params:
        entry["params"] = {"params.yaml": params}
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
