"""The demo world at its real size: the large effects only (benchmarks/demo_world.py measures all of them)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .project import STAGES, copy_code


@pytest.mark.soak
def test_the_large_effects_of_the_demo_world(tmp_path: Path) -> None:
    project = copy_code(tmp_path / "project", {})
    project.run("git", "init", "-q", "-b", "main")
    project.commit("code")
    assert tuple(project.dvc("repro").ran) == STAGES
    metrics = json.loads((project.root / "metrics.json").read_text())
    ndcg = {system: values["ndcg@10"] for system, values in metrics["test"].items()}
    assert ndcg["oracle"] > 1.3 * ndcg["dueg"]
    assert ndcg["dueg"] > 3 * ndcg["popularity"]
    assert ndcg["dueg_index"] == ndcg["dueg"]
    assert metrics["cold_among_cold"]["dueg"]["ndcg@10"] > 3 * 4.54 / 160  # chance: sum of the ten discounts / items
