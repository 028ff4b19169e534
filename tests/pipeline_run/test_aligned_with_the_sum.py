"""`train_dueg.alignment.teacher: sum` as a stage: two trainings, of which a kill loses neither, and one model out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .project import Project, sandbox
from .test_interrupted import kill_once_there_is_a_checkpoint

COMMAND = [sys.executable, "-m", "stages.train_dueg"]
ALIGNMENT = {"kind": "scores", "teacher": "sum", "temperature": 1.0, "positions": "all", "weight": 1.0}
SUM = {"train_dueg": {"items": "id+mirm", "head": {"kind": "linear"}, "alignment": ALIGNMENT}}


def test_a_dueg_learns_the_sums_scores_and_a_kill_changes_nothing(project: Project, tmp_path: Path) -> None:
    undisturbed, killed = (sandbox(project, tmp_path / name, "train_dueg", SUM) for name in ("undisturbed", "killed"))
    said = undisturbed.run(*COMMAND)
    assert "llm over id+mirm items, alpha 1" in said
    dueg = undisturbed.root / "data/dueg"
    assert json.loads((dueg / "recommender.json").read_text())["items"] == "id+mirm"
    best = json.loads((dueg / "best.json").read_text())
    assert 0 < best["summed"]["weight"] < 1 and best["summed"]["scale"] > 0 and best["summed"]["content"]["epoch"] >= 1
    assert "alignment" in (dueg / "curve.tsv").read_text().splitlines()[0]
    kill_once_there_is_a_checkpoint(killed, COMMAND, "train_dueg")
    assert not (killed.root / "data/dueg").exists()
    killed.run(*COMMAND)
    assert killed.digests("train_dueg") == undisturbed.digests("train_dueg")
