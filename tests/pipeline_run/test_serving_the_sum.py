"""`build_index.serve: sum` on the miniature world: two stages rerun, and all that is served is the score sum."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from .project import Project, sandbox

SUM = {"build_index": {"serve": "sum"}}


def test_the_score_sum_is_served_end_to_end(project: Project, tmp_path: Path) -> None:
    root = project.root
    plain = json.loads((root / "metrics.json").read_text())["test"]
    project.set_params(SUM)
    assert project.dvc("repro").ran == ["build_index", "evaluate"]

    told = json.loads((root / "data/index/sum.json").read_text())
    assert max(told["validation"], key=lambda row: row["ndcg@10"])["weight"] == told["weight"]
    metrics = json.loads((root / "metrics.json").read_text())["test"]
    assert metrics.pop("sum_index") == metrics["sum"] == plain["sum"]
    assert metrics == {system: of for system, of in plain.items() if system != "dueg_index"}

    lists = pq.read_table(root / "data/evaluation/top.parquet").to_pylist()
    project.run(sys.executable, "-m", "stages.recommend", "--all", str(tmp_path / "all.parquet"), "-k", "50", "--seen")
    served = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["items"] for row in served] == [row["items"] for row in lists]
    assert "recommended next" in project.run(sys.executable, "-m", "stages.recommend", lists[0]["user_id"], "-k", "3")

    for stage in ("build_index", "evaluate"):  # with what dvc.yaml says that they read, and nothing else
        alone = sandbox(project, tmp_path / stage, stage, SUM)
        alone.run(sys.executable, "-m", f"stages.{stage}")
        assert alone.digests(stage) == project.digests(stage)
    project.restore()
