"""The demo world's attainable ceiling at several numbers of states: what the filter's own error does to its NDCG@10.

    python -m benchmarks.ceiling                    after `molar demo`; the first 600 users, about a minute
    python -m benchmarks.ceiling --users 0 --states 4000        every user, the default number

Asks what `evaluate` asks, straight from data/world: each user's last ordinary choice among warm items, and the extra
one among cold items. No model of the pipeline has a part in it. `gain` is over the row before, paired by user; `nats`
is the mean -log P(choice | history), which tells a better posterior sooner than a rank does.
"""

from __future__ import annotations

import functools
import time
from typing import Annotated

import numpy as np
import typer

from pipeline import artifacts
from pipeline.report.results import particle_error
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.rank import scored_target_ranks
from pipeline.retrieval.significance import standard_error
from pipeline.world.ceiling import Ceiling
from pipeline.world.oracle import open_truth
from stages.paths import WORLD


def main(states: Annotated[list[int] | None, typer.Option("--states")] = None, users: int = 600) -> None:
    """Print the table, as Markdown."""
    truth = open_truth(artifacts.read(WORLD, "demo"))
    names = list(truth.rows)[: users or None]
    who = np.arange(len(names))
    print(f"{len(names):,} users\n")
    print("| states | ranking | NDCG@10 | its two runs | particles ± | users ± | gain | nats | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cold in (False, True):
        steps = np.array([len(truth.rows[name]) - (1 if cold else 2) for name in names])
        starts = np.array([truth.rows[name].start for name in names])
        histories = [truth.item_E[start : start + step] for start, step in zip(starts, steps, strict=True)]
        targets, allowed_N = truth.item_E[starts + steps], truth.items.cold_N == cold
        kind = "cold, among cold" if cold else "warm"
        ranks = functools.partial(ranked, targets=targets, allowed_N=allowed_N)
        before = None
        for count in states or [1000, 4000, 16000]:
            started = time.process_time()
            scores_RQN = Ceiling(truth, count).scores(histories, [cold] * len(names))
            spent = time.process_time() - started
            pooled = ndcg_at(ranks(scores_RQN.sum(axis=0)), 10)
            error = particle_error(ranks(scores_RQN[0]), ranks(scores_RQN[1]), who)
            one, other = error["runs"]
            sums_QN = scores_RQN.sum(axis=0, dtype=np.float64)
            nats = -np.log(sums_QN[who, targets] / sums_QN.sum(axis=1)).mean()
            more = None if before is None else pooled - before
            gain = "" if more is None else f"{more.mean():+.4f} ± {standard_error(more, who):.4f}"
            before = pooled
            print(
                f"| {count:,} | {kind} | {pooled.mean():.4f} | {one:.4f}, {other:.4f} | "
                f"{error['standard_error']:.4f} | {standard_error(pooled, who):.4f} | "
                f"{gain} | {nats:.3f} | {spent:.0f} |",
                flush=True,
            )
        truth_QN = truth.scores(names, steps)
        oracle, nats = ndcg_at(ranks(truth_QN), 10), -truth_QN[who, targets].mean()
        print(f"| oracle | {kind} | {oracle.mean():.4f} | | | {standard_error(oracle, who):.4f} | | {nats:.3f} | |")


def ranked(scores_QN: np.ndarray, targets: np.ndarray, allowed_N: np.ndarray) -> np.ndarray:
    return scored_target_ranks(lambda block: scores_QN[block].copy(), len(allowed_N), targets, None, allowed_N)


if __name__ == "__main__":
    typer.run(main)
