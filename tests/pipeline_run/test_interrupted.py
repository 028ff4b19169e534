"""Killed in the middle, run again through DVC: the work is taken up and ends in the very bytes of an undisturbed run.

tests/mirm/test_soak.py kills the other long stages, twenty times each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .project import Project, sandbox

# Long enough that a kill after the first checkpoint lands before the end.
LONG: dict[str, Any] = {"train_dueg": {"training": {"max_epochs": 60, "patience": 60}}}


def checkpoints(project: Project, stage: str) -> set[Path]:
    """Files of a checkpoint that stands, whatever the trainer calls it."""
    return {path for path in (project.scratch / stage).rglob("*.safetensors") if not path.name.startswith("next")}


def kill_once_there_is_a_checkpoint(project: Project, command: list[str], stage: str) -> None:
    """Start `command` as a process group, wait for the stage's first checkpoint, SIGKILL the whole group."""
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=project.environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        deadline = time.monotonic() + 120
        while not checkpoints(project, stage):
            assert running.poll() is None, running.communicate()[0].decode()
            assert time.monotonic() < deadline, "no checkpoint in two minutes"
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL


def test_dvc_takes_up_a_killed_stage(project: Project, tmp_path: Path) -> None:
    """DVC deletes a stage's outs before it runs the stage, and yet nothing is lost: the checkpoints lie elsewhere."""
    stage = "train_dueg"
    undisturbed = sandbox(project, tmp_path / "undisturbed", stage, LONG)
    undisturbed.run(sys.executable, "-m", f"stages.{stage}")
    project.set_params(LONG)
    kill_once_there_is_a_checkpoint(project, [sys.executable, "-m", "dvc", "repro", stage], stage)
    assert checkpoints(project, stage), "the checkpoint outlives the kill"
    assert not (project.root / "data" / "dueg").exists(), "a directory is complete or absent"
    assert project.dvc("repro", stage).ran == [stage]
    assert project.digests(stage) == undisturbed.digests(stage)
    project.restore()
