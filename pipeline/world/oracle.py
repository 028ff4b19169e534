"""The demo world's truth as a ranker: the true log-probability of every item at any moment of any user.

No model can beat it in expectation, so it shows how much of a metric is there to be had. Only `evaluate` may read
it. It computes with the function that the process itself sampled from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq

from pipeline.errors import MolarError
from pipeline.params.demo import DemoWeights
from pipeline.world.process import FACTORS, Items, Moments, log_probabilities


class Folder(Protocol):
    """What the truth is read from: an `Artifact` of the stage `demo`."""

    def file(self, name: str) -> Path: ...


@dataclass(frozen=True)
class Truth:
    """All choices of all users, and the items they chose from. Columns of `scores` are in the order of `item_ids`."""

    item_ids: list[str]
    items: Items
    weights: DemoWeights
    drift: float
    item_E: np.ndarray
    cold_E: np.ndarray
    first_EF: np.ndarray
    second_EF: np.ndarray
    rows: dict[str, range]  # user id -> its rows among the E choices, by step

    def scores(self, user_ids: Sequence[str], steps: Sequence[int] | np.ndarray) -> np.ndarray:
        """True log-probabilities of the choice at each user's step: float64 (Q, N).

        A step is the number of ordinary events before the choice: with n ordinary events, 0 .. n-1 are these (cold
        items at -inf) and n is the extra cold choice (only cold items finite). Memory: 8 Q N bytes and a few
        temporaries of that size, so ask for users in batches.
        Raises MolarError for a user or a step that the world does not have.
        """
        row_Q = np.array([self._row(user_id, int(step)) for user_id, step in zip(user_ids, steps, strict=True)], int)
        last_Q = np.full(len(row_Q), -1)
        seen_QN = np.zeros((len(row_Q), len(self.items)), dtype=bool)
        for query, (row, step) in enumerate(zip(row_Q, steps, strict=True)):
            earlier = self.item_E[row - int(step) : row]
            seen_QN[query, earlier] = True
            if step:
                last_Q[query] = earlier[-1]
        moments = Moments(self.first_EF[row_Q], self.second_EF[row_Q], last_Q, seen_QN, self.cold_E[row_Q])
        return log_probabilities(self.items, self.weights, moments)

    def _row(self, user_id: str, step: int) -> int:
        rows = self.rows.get(user_id)
        if rows is None:
            raise MolarError(f"user {user_id} is not of the demo world: set evaluate.oracle to false for other data")
        if not 0 <= step < len(rows):
            raise MolarError(
                f"user {user_id} of the demo world has no choice {step} (it has {len(rows)}): "
                "ingest the world unfiltered or set evaluate.oracle to false"
            )
        return rows[step]


def open_truth(folder: Folder) -> Truth:
    """Read what `demo` wrote to data/world."""
    items = pq.ParquetFile(folder.file("items.parquet")).read()
    events = pq.ParquetFile(folder.file("events.parquet")).read()
    weights = pq.ParquetFile(folder.file("weights.parquet")).read()
    drift = pq.ParquetFile(folder.file("drift.parquet")).read()
    users, starts = np.unique(events["user_id"].to_numpy().astype(str), return_index=True)
    order = np.argsort(starts)
    bounds = [*starts[order].tolist(), len(events)]
    return Truth(
        item_ids=items["item_id"].to_pylist(),
        items=Items(
            factors_NF=np.stack([items[name].to_numpy() for name in FACTORS], axis=1),
            log_popularity_N=items["log_popularity"].to_numpy(),
            cold_N=items["cold"].to_numpy(),
        ),
        weights=DemoWeights(**dict(zip(weights["name"].to_pylist(), weights["value"].to_pylist(), strict=True))),
        drift=drift["drift"][0].as_py(),
        item_E=events["item"].to_numpy(),
        cold_E=events["cold"].to_numpy(),
        first_EF=np.stack([events[f"first_{name}"].to_numpy() for name in FACTORS], axis=1),
        second_EF=np.stack([events[f"second_{name}"].to_numpy() for name in FACTORS], axis=1),
        rows={str(users[u]): range(bounds[n], bounds[n + 1]) for n, u in enumerate(order)},
    )
