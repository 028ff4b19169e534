"""Records of the toy's table as a run would have kept them, from ranks that are drawn: nothing is computed by DVC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import write_json
from pipeline.experiments.committed import Committed
from pipeline.experiments.figures import Figures, RowFigures
from pipeline.experiments.points import Point, points_of
from pipeline.experiments.records import FOLDER
from pipeline.experiments.table import METRICS, load_table
from pipeline.retrieval.luck import Luck
from pipeline.retrieval.metrics import summarise
from pipeline.retrieval.significance import Interval

from .toy import Toy, made

QUERIES = 300
SEEDS = range(3)
COMMIT = "c0ffee" * 7
LOCK = """\
schema: '2.0'
stages:
  ingest:
    cmd: python toy.py ingest
    deps:
    - path: data/raw/demo
      hash: md5
      md5: 0123456789abcdef.dir
    - path: toy.py
      hash: md5
      md5: ffffffffffffffff
    outs:
    - path: data/catalog
      hash: md5
      md5: fedcba9876543210.dir
  train_teacher:
    cmd: python toy.py train_teacher
"""


def ranks(row: str, seed: int) -> np.ndarray:
    """`fpmc` is worse than `whole` for everyone, `unaligned` is it with other noise; users have two queries each."""
    rng = np.random.default_rng([len(row), seed])
    base = np.random.default_rng(0).integers(0, 30, QUERIES)
    return np.maximum(0, base + rng.integers(-3, 4, QUERIES) + (4 if row == "fpmc" else 0)).astype(np.int32)


def record(toy: Toy, point: Point, ranks_Q: np.ndarray, shift: int = 0) -> Path:
    """One record, its metrics rounded as evaluate rounds them; of new items the DUEG alone has figures."""
    folder = toy.root / FOLDER / "records" / point.address
    folder.mkdir(parents=True)
    systems = {"dueg": ranks_Q, "teacher": ranks_Q + 1}
    columns = {
        "user_id": [f"u{q // 2}" for q in range(QUERIES)],
        "item_idx": np.arange(QUERIES) + shift,
        "history_length": np.arange(QUERIES) % 70 + 1,
        "target_count": np.arange(QUERIES) % 25,
        **{f"{system}_masked": of for system, of in systems.items()},
    }
    pq.write_table(pa.table(columns), folder / "per_user.parquet")

    def rounded(of_Q: np.ndarray) -> dict[str, float]:
        return {metric: round(value, 6) for metric, value in summarise(of_Q, [10]).items()}

    metrics = {
        "test": {system: rounded(of) for system, of in systems.items()},
        "cold_among_all": {"dueg": rounded(ranks_Q + 7)},
        "cold_among_cold": {"dueg": rounded(ranks_Q // 2)},
    }
    write_json(folder / "metrics.json", metrics)
    (folder / "params.yaml").write_text(point.text)
    (folder / "dvc.lock").write_text(LOCK)
    stages = [{"stage": "ingest", "source": "from cache", "seconds": 1.0}]
    stages += [{"stage": "evaluate", "source": "computed", "seconds": 61.0}]
    write_json(folder / "record.json", {"commit": COMMIT, "stages": stages})
    return folder


def shown(root: Path) -> Toy:
    """Records of `films`, whose preset masks seen items: `unaligned` lacks its last seed, `huge` has none."""
    toy = made(root, dvc=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy.root)
        for point in points_of("toy", load_table("toy"), Committed(toy.root), "films", SEEDS):
            if point.row in ("whole", "fpmc") or (point.row == "unaligned" and point.seed < 2):
                record(toy, point, ranks(point.row, point.seed))
    return toy


def made_up(name: str, data: str) -> Figures:
    """Figures for every row of a real file, for its looks."""
    table = load_table(name)
    rows = []
    for place, row in enumerate(table.rows_of(data)):
        values = {metric: [0.21 - place / 1000, 0.22 - place / 1000, 0.215 - place / 1000] for metric in METRICS}
        paper = table.rows[row].paper.get(table.paper_data(data) or "", {})
        tested = () if row == table.reference else (Interval(-0.0012, -0.0031, 0.0006, 0.2), 0.2, 0.0004)
        rows.append(RowFigures(row, [0, 1, 2], values, paper, {}, *tested))
    return Figures(name, table, data, table.reference, False, rows, Luck(3e-6, 2e-6, 10, 3), 6200, 6200, {})
