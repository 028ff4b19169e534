"""Half-finished work outlives a kill, never serves another key, and no two processes share it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import checkpoints
from pipeline.errors import MolarError

from .conftest import ROOT


@pytest.fixture(autouse=True)
def scratch_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLAR_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_work_is_kept_on_failure_found_again_and_removed_on_success(scratch_root: Path) -> None:
    with pytest.raises(ZeroDivisionError), checkpoints.scratch("train_dueg", "key") as scratch:
        (scratch / "epoch-3").write_text("weights")
        _ = 1 / 0
    with checkpoints.scratch("train_dueg", "key") as scratch:
        assert scratch == scratch_root / "train_dueg" / "key"
        assert (scratch / "epoch-3").read_text() == "weights"
    assert not scratch.exists()


def test_work_under_another_key_is_dropped_and_that_of_another_stage_kept(scratch_root: Path) -> None:
    for stage, key in (("train_dueg", "old"), ("finetune_mirm", "old")):
        with pytest.raises(ZeroDivisionError), checkpoints.scratch(stage, key):
            _ = 1 / 0
    with checkpoints.scratch("train_dueg", "new") as scratch:
        assert not list(scratch.iterdir())
        assert not (scratch_root / "train_dueg" / "old").exists()
        assert (scratch_root / "finetune_mirm" / "old").exists()


def test_the_default_root_is_absolute_and_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLAR_SCRATCH")
    monkeypatch.chdir(tmp_path)
    assert checkpoints.scratch_root() == tmp_path / ".molar"


HOLDER = """
import sys
from pipeline import checkpoints
with checkpoints.locked("train_dueg"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_of_the_same_stage_is_refused_until_the_first_ends() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, text=True, **pipes) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MolarError) as error, checkpoints.locked("train_dueg"):
            pass
        assert str(error.value) == (
            f"train_dueg is already running here (process {holder.pid}): wait for it or end it, then run again"
        )
        with checkpoints.locked("finetune_mirm"):  # another stage is another lock
            pass
        holder.kill()  # a killed holder lets go: the lock is the kernel's, not the file's
        holder.wait()
        with checkpoints.locked("train_dueg"):
            pass
