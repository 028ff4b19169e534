"""Standard errors of a run's figures: what evaluate saved, or the same computed anew from the ranks of each user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.significance import standard_error

Errors = dict[str, dict[str, dict[str, float]]]  # part -> system -> metric -> standard error over users

FIGURES = {"ndcg@10": ndcg_at, "recall@10": recall_at}
ROUNDED = 1e-6  # as metrics.json is


def saved_errors(root: Path, metrics: Mapping[str, Any], headline: str) -> Errors:
    """Of NDCG@10 and Recall@10 in the variant `headline`; empty where neither data/evaluation nor per_user.parquet is.

    Raises MolarError where what they say of a system is not what `metrics` (metrics.json) says.
    """
    errors: Errors = {}
    if (root / "data/evaluation" / artifacts.MANIFEST).is_file():
        evaluation = artifacts.read(root / "data/evaluation", "evaluate")
        report = json.loads(evaluation.file("report.json").read_text("utf-8"))
        for part in ("test", "cold_among_all", "cold_among_cold"):
            for name, of in (report[part][headline]["systems"] if report[part] else {}).items():
                _compare(root, metrics.get(part, {}).get(name, {}), of)
                errors.setdefault(part, {})[name] = of["standard_error"]
    elif (root / "per_user.parquet").is_file():
        table = pq.read_table(root / "per_user.parquet")
        users = np.unique(table["user_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1].astype(np.int32)
        for name, of in metrics["test"].items():
            ranks_Q = table[f"{name}_{headline}"].to_numpy()
            each = {key: figure(ranks_Q, 10) for key, figure in FIGURES.items()}
            _compare(root, of, {key: float(values.mean()) for key, values in each.items()})
            errors.setdefault("test", {})[name] = {key: standard_error(values, users) for key, values in each.items()}
    return errors


def _compare(root: Path, measured: Mapping[str, float], saved: Mapping[str, Any]) -> None:
    if any(key not in measured or abs(measured[key] - saved[key]) > ROUNDED for key in FIGURES):
        raise MolarError(
            f"{root / 'metrics.json'} and the ranks beside it are not of one run: run `dvc repro evaluate`"
        )
