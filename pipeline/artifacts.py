"""The one way to write and to read a stage's output directory.

Promise: a directory is complete or absent. It is written as a hidden sibling (`data/.catalog.partial`), given a
`manifest.json` that names every file with its size and SHA-256, flushed to disk and renamed into place. The
manifest holds content only and no provenance (that is dvc.lock's), so equal content cuts off everything
downstream. Reading verifies each file it hands out, once, and names the file and the stage to rerun.

    with artifacts.write(Path("data/teacher")) as out:
        save_file(tensors, out / "model.safetensors")

    teacher = artifacts.read(Path("data/teacher"), stage="train_teacher")
    tensors = load_file(teacher.file("model.safetensors"))
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import MolarError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """JSON whose bytes depend on the value alone: sorted keys, two spaces, final newline."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


@contextmanager
def write(directory: Path, **facts: int | str) -> Iterator[Path]:
    """Yield a temporary sibling to fill; on success it becomes `directory`, on any error nothing is left.

    `facts` (row counts and the like) go into the manifest beside the files. The yielded path's files may also be
    described later: call `describe(path, rows=...)` inside the block.
    Raises MolarError when the disk is full.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left behind
    try:
        partial.mkdir(parents=True)
        describe(partial, **facts)
        yield partial
        _seal(partial)
        _replace(partial, directory)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MolarError(
            f"{directory}: no space left on the device while writing: free some and run the stage again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe(partial: Path, **facts: int | str) -> None:
    """Add facts (counts, dimensions, dtypes) to the manifest of a directory that is being written."""
    path = partial / MANIFEST
    known = json.loads(path.read_text("utf-8")) if path.exists() else {"schema_version": SCHEMA_VERSION}
    write_json(path, known | facts)


def _seal(partial: Path) -> None:
    """Write the manifest over everything present, and flush every file to disk."""
    files = {}
    for path in sorted(p for p in partial.rglob("*") if p.is_file() and p.name != MANIFEST):
        files[path.relative_to(partial).as_posix()] = {"size": path.stat().st_size, "sha256": sha256(path)}
    describe(partial, files=files)  # type: ignore[arg-type]
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


def _replace(partial: Path, directory: Path) -> None:
    """Rename into place; an older directory is moved aside first, so that no moment shows a half of each."""
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


class Artifact:
    """A finished directory. `facts` are its manifest's, `file(name)` a verified path inside it."""

    def __init__(self, directory: Path, stage: str) -> None:
        self.directory, self.stage = directory, stage
        self._verified: set[str] = set()

    @cached_property
    def facts(self) -> dict[str, Any]:
        path = self.directory / MANIFEST
        try:
            manifest = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise MolarError(f"{self.directory} is missing or unfinished: run `dvc repro {self.stage}`") from None
        except ValueError:
            raise self._corrupted(MANIFEST) from None
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise MolarError(
                f"{path} has schema version {manifest.get('schema_version')!r}, this code reads {SCHEMA_VERSION}: "
                f"run `dvc repro --force --single-item {self.stage}`"
            )
        return manifest

    @property
    def names(self) -> list[str]:
        """Every file in the directory, relative, sorted, manifest excluded."""
        return sorted(self.facts["files"])

    def file(self, name: str) -> Path:
        """The path of one file, after its size and SHA-256 were compared with the manifest (once per process)."""
        path = self.directory / name
        expected = self.facts["files"].get(name)
        if expected is None or not path.is_file():
            raise MolarError(f"{path} is missing: run `dvc repro --force --single-item {self.stage}`")
        if name not in self._verified:
            if path.stat().st_size != expected["size"] or sha256(path) != expected["sha256"]:
                raise self._corrupted(name)
            self._verified.add(name)
        return path

    def verified(self) -> Path:
        """The directory itself, after every file in it was verified: for readers that open a whole folder."""
        for name in self.names:
            self.file(name)
        return self.directory

    def _corrupted(self, name: str) -> MolarError:
        return MolarError(
            f"{self.directory / name} is corrupted (it differs from its manifest): "
            f"run `dvc repro --force --single-item {self.stage}`"
        )


def read(directory: Path, stage: str) -> Artifact:
    """Open a finished directory that `stage` writes. Raises MolarError if it is missing or unfinished."""
    artifact = Artifact(directory, stage)
    _ = artifact.facts
    return artifact
