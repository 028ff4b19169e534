"""Every stage that computes runs on another device than the CPU, as on a GPU, and finds there what the CPU does."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT
from .project import Project

DEVICE = ROOT / "tests" / "second_device.py"
APPLYING = ("embed_items", "build_index", "evaluate")  # what the CPU has trained
TRAINING = ("train_teacher", "finetune_mirm", "train_dueg")

MIXING = """
import torch

def main():
    there = torch.ones(3, device="elsewhere")
    assert (there * 2).cpu().tolist() == [2, 2, 2] and there[torch.tensor([0, 1])].sum().item() == 2
    for mix in (
        lambda: there + torch.ones(3),
        lambda: torch.ones(3).add_(there),
        lambda: torch.ones(3)[there > 0],
        lambda: there.numpy(),
        lambda: torch.nn.functional.embedding(torch.tensor([0]), there[:, None]),
    ):
        try:
            mix()
        except (RuntimeError, TypeError) as error:
            assert not isinstance(error, NotImplementedError), "refused for want of a kernel, and not by the rule"
            continue
        raise SystemExit("two devices have mixed")
    with torch.inference_mode():
        moved = torch.nn.Linear(2, 2).to("elsewhere")
    try:
        moved.requires_grad_(True)
    except RuntimeError:
        return
    raise SystemExit("trained after inference_mode")
"""


def test_the_stages_run_elsewhere_and_come_to_the_same_figures(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.root, tmp_path / "project", ignore=shutil.ignore_patterns(".git", ".molar", "cache"))
    there = Project(tmp_path / "project")
    there.run(sys.executable, str(DEVICE), *APPLYING, *TRAINING)
    ours, theirs = (json.loads((at.root / "metrics.json").read_text("utf-8"))["test"] for at in (project, there))
    assert ours.keys() == theirs.keys()
    for system, figures in ours.items():
        assert theirs[system] == pytest.approx(figures, abs=1e-3), system
    for trained in ("teacher", "dueg"):
        expected, found = (losses(at.root / "data" / trained / "curve.tsv") for at in (project, there))
        assert found == pytest.approx(expected, rel=0.02), trained


def losses(curve: Path) -> list[float]:
    with curve.open(newline="") as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle, delimiter="\t")]


def test_that_device_is_as_strict_as_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "mixing.py").write_text(MIXING)
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, str(DEVICE), "mixing"], cwd=tmp_path, check=True)
