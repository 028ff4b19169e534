"""A stage's directory is complete or absent, equal content has equal bytes, and damage is named before it is read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.errors import MolarError

from .conftest import ROOT


def make(directory: Path, text: str = "rows", **facts: int | str) -> None:
    with artifacts.write(directory, **facts) as out:
        (out / "inner").mkdir()
        (out / "inner" / "table.txt").write_text(text)
        (out / "model.bin").write_bytes(b"\0" * 10)


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def refusal(directory: Path, name: str = "model.bin") -> str:
    with pytest.raises(MolarError) as error:
        artifacts.read(directory, "train_teacher").file(name)
    return str(error.value)


def test_what_was_written_is_read_back_with_its_facts(tmp_path: Path) -> None:
    out = tmp_path / "data" / "teacher"
    make(out, rows=3)
    with artifacts.write(tmp_path / "other") as partial:
        artifacts.describe(partial, rows=7)
        artifacts.describe(partial, dim=2)
    artifact = artifacts.read(out, "train_teacher")
    assert artifact.names == ["inner/table.txt", "model.bin"]
    assert artifact.facts["rows"] == 3
    assert artifact.file("inner/table.txt").read_text() == "rows"
    assert artifact.verified() == out
    facts = artifacts.read(tmp_path / "other", "x").facts
    assert (facts["rows"], facts["dim"], facts["files"]) == (7, 2, {})


def test_equal_content_is_equal_bytes_wherever_and_whenever_it_is_written(tmp_path: Path) -> None:
    make(tmp_path / "a" / "teacher", rows=3)
    make(tmp_path / "b" / "mirm", rows=3)
    assert contents(tmp_path / "a" / "teacher") == contents(tmp_path / "b" / "mirm")


def test_an_error_in_the_block_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "teacher", "old")
    with pytest.raises(ZeroDivisionError), artifacts.write(tmp_path / "teacher") as out:
        (out / "half.txt").write_text("new")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
    assert artifacts.read(tmp_path / "teacher", "x").file("inner/table.txt").read_text() == "old"


def test_a_finished_directory_replaces_the_older_one_whole(tmp_path: Path) -> None:
    make(tmp_path / "teacher")
    with artifacts.write(tmp_path / "teacher") as out:
        (out / "new.txt").write_text("new")
    assert set(contents(tmp_path / "teacher")) == {"manifest.json", "new.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


KILLED = """
import os, signal
from pathlib import Path
from pipeline import artifacts
with artifacts.write(Path("teacher")) as out:
    (out / "model.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_that_reads_as_finished(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "teacher").exists()
    assert refusal(tmp_path / "teacher") == (
        f"{tmp_path / 'teacher'} is missing or unfinished: run `dvc repro train_teacher`"
    )
    make(tmp_path / "teacher")  # the next run clears up
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_a_changed_byte_names_the_file_and_the_stage(tmp_path: Path) -> None:
    make(tmp_path / "teacher")
    path = tmp_path / "teacher" / "model.bin"
    for damage in (b"\0" * 9 + b"\1", b"\0" * 9, b""):  # flipped, truncated, emptied
        path.write_bytes(damage)
        assert refusal(tmp_path / "teacher") == (
            f"{path} is corrupted (it differs from its manifest): run `dvc repro --force --single-item train_teacher`"
        )
    path.unlink()
    assert refusal(tmp_path / "teacher") == f"{path} is missing: run `dvc repro --force --single-item train_teacher`"


def test_a_file_that_the_stage_never_wrote_is_missing(tmp_path: Path) -> None:
    make(tmp_path / "teacher")
    (tmp_path / "teacher" / "stray.bin").write_bytes(b"")
    assert "stray.bin is missing" in refusal(tmp_path / "teacher", "stray.bin")


def test_a_damaged_manifest_and_another_schema_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path / "teacher")
    manifest = tmp_path / "teacher" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[: len(text) // 2])
    assert refusal(tmp_path / "teacher") == (
        f"{manifest} is corrupted (it differs from its manifest): run `dvc repro --force --single-item train_teacher`"
    )
    manifest.write_text(text.replace('"schema_version": 1', '"schema_version": 0'))
    assert refusal(tmp_path / "teacher") == (
        f"{manifest} has schema version 0, this code reads 1: run `dvc repro --force --single-item train_teacher`"
    )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MolarError) as error:
        make(tmp_path / "teacher")
    assert str(error.value) == (
        f"{tmp_path / 'teacher'}: no space left on the device while writing: free some and run the stage again"
    )
    assert not list(tmp_path.iterdir())


def test_another_error_of_the_system_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        make(tmp_path / "teacher")
