"""A table's numbers, from the records of its runs: means over seeds, tests against one row, buckets.

Promise: all figures are of the same queries, ranked among the same items; other rows are left out and named. The unit
of a test is the user: a query's NDCG@10 is averaged over the seeds that both rows have, then the two rows are paired by
sign flips over users, and the p values of all rows are corrected together (Holm). More seeds are never counted as more
users; they narrow a row's mean, and tell how much of a difference may be luck (pipeline/retrieval/luck.py). That is
told once, by those rows and seeds that tell most of it, and counted for every row, one of which a single seed is there
included. A table of one row or one seed tells nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import MolarError
from pipeline.experiments import records
from pipeline.experiments.committed import Committed
from pipeline.experiments.points import MOST_SEEDS, Point, chosen_rows, points_of
from pipeline.experiments.table import METRICS, Table, load_table
from pipeline.retrieval.luck import Luck, luck
from pipeline.retrieval.metrics import HISTORY_EDGES, POPULARITY_EDGES, bucket_names, ndcg_at, recall_at
from pipeline.retrieval.significance import Interval, holm, paired_bootstrap, sign_flip, standard_error

FLIPS, RESAMPLES = 10_000, 2_000
BUCKETS = {"training interactions of the target": POPULARITY_EDGES, "items of history": HISTORY_EDGES}
COLD = {"cold_among_all": "among all items", "cold_among_cold": "among new items alone"}  # as metrics.json has them


@dataclass(frozen=True)
class Run:
    """One row and seed: ranks (Q,) of the targets, what the queries are, and where they were read."""

    ranks_Q: NDArray[np.integer]
    queries: Queries
    cold: dict[str, float]  # part of COLD -> NDCG@10 of targets that nobody was trained on, where the run has them
    record: Path


@dataclass(frozen=True)
class Queries:
    users_Q: NDArray[np.str_]
    targets_Q: NDArray[np.integer]
    buckets: dict[str, NDArray[np.integer]]  # kind -> bucket (Q,) of each query
    masked: bool  # seen items out of the ranking?

    def same(self, other: Queries) -> bool:
        return (
            self.masked == other.masked
            and np.array_equal(self.users_Q, other.users_Q)
            and np.array_equal(self.targets_Q, other.targets_Q)
        )


@dataclass(frozen=True)
class RowFigures:
    """A row: per metric one figure for each of the `seeds` that are there."""

    row: str
    seeds: list[int]
    values: dict[str, list[float]]
    paper: dict[str, float]
    buckets: dict[str, list[float]] = field(default_factory=dict)  # kind -> mean NDCG@10 of each bucket
    difference: Interval | None = None  # in NDCG@10 from the reference; its p is the bootstrap's
    p: float | None = None  # of sign flips
    p_holm: float | None = None
    error: float | None = None  # standard error over users of the mean NDCG@10
    cold: dict[str, list[float]] = field(default_factory=dict)  # part of COLD -> NDCG@10 of every seed that has it

    def mean(self, metric: str) -> float | None:
        return float(np.mean(self.values[metric])) if self.seeds else None

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds; None of fewer than two."""
        return float(np.std(self.values[metric], ddof=1)) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Figures:
    """A table on one data set."""

    name: str
    table: Table
    data: str
    reference: str
    masked: bool  # seen items out of the ranking?
    rows: list[RowFigures]
    luck: Luck | None  # of the seeds, which intervals and p count; None: no two rows have two seeds in common
    users: int
    queries: int
    bucket_sizes: dict[str, list[int]]  # queries of each bucket
    records: dict[str, dict[int, Path]] = field(default_factory=dict)  # row -> seed -> folder, of those that are there
    odd: list[str] = field(default_factory=list)  # rows that are left out, for they were asked other queries


def figures(
    name: str, data: str | None = None, seeds: Sequence[int] | None = None, against: str | None = None
) -> Figures:
    """Of every row that applies to the data set, those without a record included; of all seeds unless some are named.

    Raises MolarError: the file, a row or data set that it does not have, a system that a record does not rank.
    """
    table, committed = load_table(name), Committed(Path.cwd())
    data = data or next(iter(table.data))
    reference = against or table.reference
    chosen_rows(name, table, data, [reference])
    points = points_of(name, table, committed, data, range(MOST_SEEDS) if seeds is None else seeds)
    runs = _runs(table, committed.root, points)
    first = runs.get(reference) or next(iter(runs.values()), {})
    queries = next((run.queries for run in first.values()), None)
    odd = [row for row, of in runs.items() if queries and not all(run.queries.same(queries) for run in of.values())]
    for row in odd:
        del runs[row]
    rows = [_row(row, table, data, runs.get(row, {})) for row in table.rows_of(data) if row not in odd]
    _, users_Q = np.unique(queries.users_Q if queries else [], return_inverse=True)
    of_seeds = _luck(runs, users_Q)
    return Figures(
        name=name,
        table=table,
        data=data,
        reference=reference,
        masked=queries.masked if queries else points[0].values["protocol"]["mask_seen"],
        rows=_tested(rows, runs, reference, users_Q, of_seeds),
        luck=of_seeds,
        users=len(np.unique(users_Q)),
        queries=len(users_Q),
        bucket_sizes={
            kind: [int(np.count_nonzero(queries.buckets[kind] == b)) for b in range(len(edges))] if queries else []
            for kind, edges in BUCKETS.items()
        },
        records={row: {seed: run.record for seed, run in of_row.items()} for row, of_row in runs.items()},
        odd=odd,
    )


def _runs(table: Table, root: Path, points: Sequence[Point]) -> dict[str, dict[int, Run]]:
    """Row -> seed -> run, of those that have a record."""
    runs: dict[str, dict[int, Run]] = {}
    folders = {address: records.find(root, address) for address in dict.fromkeys(point.address for point in points)}
    for point in points:
        if folder := folders[point.address]:
            run = _read(folder, table.rows[point.row].system, point.values)
            runs.setdefault(point.row, {})[point.seed] = run
    return runs


def _read(folder: Path, system: str, params: Mapping[str, Any]) -> Run:
    masked = params["protocol"]["mask_seen"]
    variant = "masked" if masked else "unmasked"
    path = folder / "per_user.parquet"
    try:
        parquet = pq.read_table(path)
    except (pa.ArrowException, OSError):  # it has both ends, which is all that `find` looks at
        raise MolarError(f"{path} is damaged: delete {folder} and run the row again, it comes from the cache") from None
    column = f"{system}_{variant}"
    if column not in parquet.column_names:
        known = [name.removesuffix(f"_{variant}") for name in parquet.column_names if name.endswith(f"_{variant}")]
        raise MolarError(f"system {system!r} is none of those that {path} ranks ({', '.join(known)})")
    counts, lengths = parquet["target_count"].to_numpy(), parquet["history_length"].to_numpy()
    buckets = {
        kind: np.maximum(np.searchsorted(edges, values, side="right") - 1, 0)
        for (kind, edges), values in zip(BUCKETS.items(), (counts, lengths), strict=True)
    }
    users = np.array(parquet["user_id"].to_pylist(), dtype=np.str_)
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    cold = {part: metrics[part][system]["ndcg@10"] for part in COLD if system in metrics.get(part, {})}
    return Run(
        parquet[column].to_numpy(), Queries(users, parquet["item_idx"].to_numpy(), buckets, masked), cold, folder
    )


def _row(row: str, table: Table, data: str, runs: Mapping[int, Run]) -> RowFigures:
    there = sorted(runs)
    ranks = [runs[seed].ranks_Q for seed in there]
    values = {metric: [float(_at(metric, ranks_Q).mean()) for ranks_Q in ranks] for metric in METRICS}
    buckets: dict[str, list[float]] = {}
    error = None
    if there:
        value_Q, queries = _averaged(runs, there), runs[there[0]].queries
        error = standard_error(value_Q, np.unique(queries.users_Q, return_inverse=True)[1])
        for kind, bucket_Q in queries.buckets.items():
            inside = [value_Q[bucket_Q == b] for b in range(len(BUCKETS[kind]))]
            buckets[kind] = [float(found.mean()) if len(found) else float("nan") for found in inside]
    paper = table.rows[row].paper.get(table.paper_data(data) or "", {})
    cold = {part: [runs[seed].cold[part] for seed in there if part in runs[seed].cold] for part in COLD}
    return RowFigures(row, there, values, paper, buckets, error=error, cold={k: v for k, v in cold.items() if v})


def _at(metric: str, ranks_Q: NDArray[np.integer]) -> NDArray[np.float64]:
    kind, _, cutoff = metric.partition("@")
    return (ndcg_at if kind == "ndcg" else recall_at)(ranks_Q, int(cutoff))


def _averaged(runs: Mapping[int, Run], seeds: Sequence[int]) -> NDArray[np.float64]:
    """NDCG@10 (Q,) of each query, the mean over those seeds."""
    return np.mean([ndcg_at(runs[seed].ranks_Q, 10) for seed in seeds], axis=0)


def _tested(
    rows: list[RowFigures],
    runs: Mapping[str, Mapping[int, Run]],
    reference: str,
    users_Q: NDArray[np.integer],
    of_seeds: Luck | None,
) -> list[RowFigures]:
    """The rows with their difference from the reference, where both have a seed in common."""
    tested: dict[str, RowFigures] = {}
    p_values: dict[str, float] = {}
    for row in rows:
        shared = [seed for seed in row.seeds if seed in runs.get(reference, {})]
        if row.row == reference or not shared:
            continue
        ours, theirs = (_averaged(runs[name], shared) for name in (row.row, reference))
        mine = replace(of_seeds, seeds=len(shared)) if of_seeds else None
        drawn_F, drawn_R = (mine.draws(count) if mine else None for count in (FLIPS, RESAMPLES))
        p_values[row.row] = sign_flip(ours, theirs, users_Q, FLIPS, luck_R=drawn_F)
        interval = paired_bootstrap(ours, theirs, users_Q, RESAMPLES, luck_R=drawn_R)
        tested[row.row] = replace(row, difference=interval, p=p_values[row.row])
    adjusted = holm(p_values)
    return [replace(tested[row.row], p_holm=adjusted[row.row]) if row.row in tested else row for row in rows]


def _luck(runs: Mapping[str, Mapping[int, Run]], users_Q: NDArray[np.integer]) -> Luck | None:
    """By the seeds that two rows share, and all rows that have these: those that leave it most degrees of freedom."""

    def having(seeds: tuple[int, ...]) -> list[Mapping[int, Run]]:
        return [of_row for of_row in runs.values() if all(seed in of_row for seed in seeds)]

    choices = sorted(
        {tuple(sorted(one & other)) for one, other in combinations_with_replacement(map(set, runs.values()), 2)}
    )
    seeds = max(choices, key=lambda seeds: (len(having(seeds)) - 1) * (len(seeds) - 1), default=())
    if len(seeds) < 2:
        return None
    return luck(np.array([[ndcg_at(of[seed].ranks_Q, 10) for seed in seeds] for of in having(seeds)]), users_Q)


def names_of_buckets(kind: str) -> list[str]:
    return bucket_names(BUCKETS[kind])
