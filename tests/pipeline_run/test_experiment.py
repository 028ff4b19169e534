"""Table 5 of the real pipeline, in miniature: equal work is done once, and a second run does none."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ..conftest import ROOT
from .project import STAGES, new_project


@pytest.mark.soak
def test_table5_computes_each_combination_once_and_then_nothing(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    for name in ("experiments", "presets"):
        shutil.copytree(ROOT / name, project.root / name)
    project.commit("experiments")
    molar = (sys.executable, "-m", "stages.cli", "experiment")
    said = project.run(*molar, "run", "table5", "--seeds", "1").splitlines()
    computed = [line for line in said if line.endswith("  computed")]
    records = list((project.root / ".molar/experiments/records").iterdir())
    locks = [YAML(typ="safe").load((record / "dvc.lock").read_text()) for record in records]
    work = {
        json.dumps([name, stage["params"], [(d["path"], d["md5"]) for d in stage["deps"]]], sort_keys=True)
        for lock in locks
        for name, stage in lock["stages"].items()
    }
    assert len(records) == 6 and len(computed) == len(work)
    assert len(work) <= int(re.search(r"at most (\d+) stages", "\n".join(said))[1]) < len(locks) * len(STAGES)
    start = time.monotonic()
    assert "nothing to compute, 6 runs there" in project.run(*molar, "run", "table5", "--seeds", "1")
    assert time.monotonic() - start < 60
    shown = project.run(*molar, "show", "table5")
    assert "missing" not in shown and "corrected for 5 comparisons" in shown.replace("\n  ", "")
