"""Every stage on a split by time with drawn cold items: users without training items, several questions a user."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from .project import MINIATURE, STAGES, copy_code

BY_TIME = {"split": "global_time", "valid_share": 0.15, "test_share": 0.15, "cold_items": "drawn", "cold_share": 0.1}


def test_a_split_by_time_runs_end_to_end(tmp_path: Path) -> None:
    params = MINIATURE | {"ingest": BY_TIME, "evaluate": {"bootstrap": 100, "oracle": False}}
    project = copy_code(tmp_path / "project", params)
    for stage in STAGES:
        project.run(sys.executable, "-m", f"stages.{stage}")
    split = json.loads((project.root / "data/catalog/summary.json").read_text())["split"]
    sequences = pq.read_table(project.root / "data/catalog/sequences.parquet")
    trained = sequences["train_end"].to_numpy()
    assert (trained == 0).sum() == split["without_history"] > 0
    metrics = json.loads((project.root / "metrics.json").read_text())
    assert set(metrics["test"]) == {"popularity", "teacher", "dueg", "dueg_index", "sum"}
    per_user = pq.read_table(project.root / "data/evaluation/per_user.parquet")
    asked = per_user["user_id"].to_pylist()
    assert len(asked) > len(set(asked)), "several questions a user"
    assert len(asked) <= split["test"]
