"""The commit that rows are computed from: its files, and a digest of the code that a result depends on.

What is not committed is not measured: rows run in a clone of HEAD. Two commits whose `dvc.yaml` lists the same stages
over the same code are one code (`code_digest`), so that a commit of a page of docs makes no result out of date.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import MolarError
from pipeline.params.document import leaf
from pipeline.params.load import parsed

TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Committed:
    """The commit that HEAD of the checkout at `root` is when it is first asked; it stays that one."""

    root: Path

    @cached_property
    def sha(self) -> str:
        return self._git("rev-parse", "HEAD").strip()

    @cached_property
    def blobs(self) -> dict[str, str]:
        """Path -> object id of every file in it."""
        entries = [entry.partition("\t") for entry in self._git("ls-tree", "-r", "-z", self.sha).split("\0") if entry]
        return {path: about.split()[2] for about, _, path in entries}

    @cached_property
    def stages(self) -> dict[str, Any]:
        """The stages of its dvc.yaml, in the file's order, which is that of the work."""
        return (parsed(self.text("dvc.yaml"), "dvc.yaml") or {}).get("stages", {})

    @cached_property
    def shares(self) -> bool:
        """Whether its params.yaml lets the data be passed on."""
        params = parsed(self.text("params.yaml"), "params.yaml") or {}
        return (params.get("runtime") or {}).get("share_data") is not False

    @cached_property
    def sections(self) -> list[str]:
        """Sections of params.yaml that a stage tracks: the others change no result."""
        return sorted({key.split(".")[0] for stage in self.stages.values() for key in stage.get("params", [])})

    def has(self, path: str) -> bool:
        """Whether it has such a file."""
        return path in self.blobs

    def text(self, path: str) -> str:
        """A file of it. Raises MolarError: it has none."""
        if not self.has(path):
            raise MolarError(f"{path} is not committed: rows are computed from the last commit")
        return self._git("show", f"{self.sha}:{path}")

    def deps(self, values: dict[str, Any]) -> set[str]:
        """All that its stages depend on under those params."""
        return {resolved(dep, values) for stage in self.stages.values() for dep in stage.get("deps", [])}

    def code_digest(self, values: dict[str, Any]) -> str:
        """Of the stages and all that they depend on under those params and do not make: code, raw data's .dvc files.

        Data outside the repository counts by names, sizes and times of its files.
        """
        stages = {name: that_counts(stage) for name, stage in self.stages.items()}
        digest = hashlib.sha256(json.dumps(stages, sort_keys=True).encode())
        deps = self.deps(values)
        for path, blob in sorted(self.blobs.items()):
            if _of(path, deps):
                digest.update(f"{path} {self._unmarked(path, blob)}\n".encode())
        for outside in sorted(Path(dep) for dep in deps if Path(dep).is_absolute()):
            for file in sorted(path for path in (outside, *outside.rglob("*")) if path.is_file()):
                about = file.stat()
                digest.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:12]

    def _unmarked(self, path: str, blob: str) -> str:
        """The object id that DVC's word on a raw folder has without `push: false`, which changes no result."""
        lines = self.text(path).splitlines(True) if path.endswith(".dvc") else []
        kept = [line for line in lines if line.strip() != "push: false"]
        if kept == lines:
            return blob
        content = "".join(kept).encode()
        kind = "sha256" if len(blob) == hashlib.sha256().digest_size * 2 else "sha1"
        return hashlib.new(kind, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def params_digest(self, values: dict[str, Any]) -> str:
        """Of the params that a stage tracks."""
        tracked = {name: values[name] for name in self.sections}
        return hashlib.sha256(json.dumps(tracked, sort_keys=True).encode()).hexdigest()[:12]

    def changed(self, every: Iterable[dict[str, Any]]) -> list[str]:
        """Files that a row with any of those params would need and that differ from it in the checkout."""
        listed = self._git("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames").split("\0")
        deps = {"dvc.yaml", "params.yaml"}.union(*map(self.deps, every))
        return [path for path in (entry[3:] for entry in listed if entry) if _of(path, deps)]

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, check=False, capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no words"])[0]
            raise MolarError(f"git {arguments[0]}: {words} (experiments need a Git repository with one commit)")
        return done.stdout


class WorkingTree(Committed):
    """The same of the checkout's files as they lie there; a file that is not there is an empty one."""

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def text(self, path: str) -> str:
        return (self.root / path).read_text("utf-8") if self.has(path) else ""


def that_counts(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage of dvc.yaml without what changes no result: its words, and which outs are pushed."""

    def out(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        (path, about), *_ = entry.items()
        kept = {key: value for key, value in about.items() if key != "push"}
        return {path: kept} if kept else path

    kept = {key: value for key, value in stage.items() if key != "desc"}
    return kept | {key: [out(entry) for entry in kept[key]] for key in ("outs", "metrics") if key in kept}


def _of(path: str, deps: Iterable[str]) -> bool:
    """Whether a file is one of them, lies in one, or is DVC's word on one."""
    return any(path in (dep, f"{dep}.dvc") or path.startswith(f"{dep}/") for dep in deps)


def resolved(dep: str, values: dict[str, Any]) -> str:
    """A dependency as dvc.yaml writes it, `${section.key}` replaced by that param."""

    return TEMPLATE.sub(lambda found: str(leaf(values, found[1])), dep)
