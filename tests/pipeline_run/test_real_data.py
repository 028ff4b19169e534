"""MovieLens 100K with posters and plots, end to end at small budgets: the preset as a user applies it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from .project import MINIATURE, STAGES, copy_code

SMALL = MINIATURE | {
    "train_teacher": {"training": {"max_epochs": 3}},
    "finetune_mirm": MINIATURE["finetune_mirm"] | {"max_text_tokens": 16, "image_pixels": 3136},
    "train_dueg": {"training": {"max_epochs": 2}},
}


def test_the_ml_100k_preset_runs_end_to_end(tmp_path: Path, real_data: Path) -> None:
    project = copy_code(tmp_path / "project", {})
    (project.root / "presets").mkdir()
    preset = Path(__file__).parents[2] / "presets" / "ml-100k.yaml"
    (project.root / "presets" / preset.name).write_bytes(preset.read_bytes())
    project.run(sys.executable, "-m", "stages.cli", "preset", "ml-100k", "--write")
    project.set_params(SMALL)
    (project.root / "data/raw/ml-100k").symlink_to(real_data / "ml-100k")
    for stage in STAGES:  # not through DVC, which would copy the pictures into its cache
        project.run(sys.executable, "-m", f"stages.{stage}")
    split = json.loads((project.root / "data/catalog/summary.json").read_text())["split"]
    assert (split["users"], split["training"], split["validation"], split["test"]) == (943, 98_114, 943, 943)
    metrics = json.loads((project.root / "metrics.json").read_text())["test"]
    assert metrics["teacher"]["ndcg@10"] > 0.03  # three epochs already beat chance (.003) by far
    assert set(metrics) == {"popularity", "teacher", "dueg", "dueg_index", "sum"}


@pytest.fixture
def real_data() -> Path:
    """The folder that holds ml-100k/, from MOLAR_REAL_DATA."""
    folder = os.environ.get("MOLAR_REAL_DATA")
    if not folder:
        pytest.skip("MOLAR_REAL_DATA is not set: the licence keeps MovieLens out of the repository")
    return Path(folder)
