"""What does training cost as items and users grow? CPU seconds of an epoch and peak memory of SASRec, one thread.

    python -m benchmarks.scale         10,000 to 300,000 items, 100,000 and 1,000,000 users; about eight minutes
    python -m benchmarks.scale --items 200,400,800,1600 --users 600 --steps 3 --whole 600       a minute: does it run?

On generated data (generated.py), by full softmax and by sampled softmax with 256 negatives that a batch shares. Epochs
of this size are too long to be run, so each is put together from what is measured, every (objective, items, users) in a
process of its own:

- its batches, made whole, for all users;
- a step: the real `fit` takes, after a first one that does not count, `--steps` batches from the one of fewest targets
  to the one of most; what each batch of the epoch would take is interpolated by its targets, and the mean is told;
- a checkpoint;
- validation by full ranking, of the first 5,000 users and of one alone: what it costs once, and for each user.

For catalogues in between there is a line, seconds a step = a + b x items, fitted by least squares of the relative
residuals to all cells of an objective. Its largest residual is told: where that is large, a step is no line in items.
As a check of the method an epoch of `--whole` users and the fewest items is run whole, beside its extrapolation.

Memory is the peak resident set of the process, interpreter and torch included (the closing line says what these take
alone), with all users' sequences and batches, weights, gradients, AdamW's moments and the average. Not in it is what
validating all users at once would add: a history's view and the vector of each, about 1 kB a user (reckoned).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import torch
import typer

from benchmarks.generated import BATCH, HISTORY, sasrec, world
from benchmarks.rank import peak_mib
from benchmarks.teacher import trained
from benchmarks.train import first_users
from pipeline.live import Live
from pipeline.recommender.batches import epoch_batches, targets_in
from pipeline.recommender.fit import validate

FEW = 5000  # users that are validated, and whose batches steps are chosen from: more than one pool of batches.py
OBJECTIVES: dict[str, dict[str, object]] = {
    "full softmax": {"kind": "softmax"},
    "sampled, 256": {"kind": "sampled", "negatives": 256, "draw": "uniform", "drawn_per": "batch", "log_q": True},
}
Key = tuple[str, int, int]  # objective, items, users
Cell = dict[str, float]  # figures by name


class Clock(Live):
    """CPU seconds at which an epoch begins, after each of its steps, and when it has been validated."""

    def __init__(self) -> None:
        self.begun, self.validated, self.stepped = 0.0, 0.0, list[float]()

    def begin(self, done: int, total: int) -> None:
        self.begun = time.process_time()

    def add(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        self.stepped.append(time.process_time())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.validated = time.process_time()


def targets(rows: np.ndarray) -> int:
    """Of a batch (n, 4)."""
    return int(targets_in(rows).sum())


def parts(objective: str, items: int, users: int, steps: int) -> Cell:
    """What an epoch is made of, measured in this process."""
    sequences = world(users, items)
    few = first_users(sequences, min(FEW, users))
    start = time.process_time()
    batches = epoch_batches(sequences, HISTORY, BATCH, "windows", 0, 0)
    making = time.process_time() - start
    by_targets = sorted(epoch_batches(few, HISTORY, BATCH, "windows", 0, 0), key=targets)
    chosen = [by_targets[at] for at in np.linspace(0, len(by_targets) - 1, steps).round().astype(int)]
    clock = Clock()
    with (
        tempfile.TemporaryDirectory() as scratch,
        patch("pipeline.recommender.fit.epoch_batches", return_value=[chosen[0], *chosen]),
    ):
        model, _ = trained(sasrec(OBJECTIVES[objective], epochs=1), few, 0, Path(scratch), clock)
    checkpoint = time.process_time() - clock.validated
    start = time.process_time()
    validate(model, first_users(few, 1), mask_seen=False)
    once = time.process_time() - start
    known = list(map(targets, chosen)), np.diff(clock.stepped)
    return {
        "steps": len(batches),
        "targets": float(np.mean(list(map(targets, batches)))),
        "step s": float(np.interp(list(map(targets, batches)), *known).mean()),
        "batches s": making,
        "checkpoint s": checkpoint,
        "once s": once,
        "a user s": max(clock.validated - clock.stepped[-1] - once, 0.0) / len(few),
        "peak MiB": peak_mib(),
    }


def whole_epoch(objective: str, items: int, users: int) -> Cell:
    """An epoch itself, run in this process."""
    clock, sequences = Clock(), world(users, items)
    with tempfile.TemporaryDirectory() as scratch:
        trained(sasrec(OBJECTIVES[objective], epochs=1), sequences, 0, Path(scratch), clock)
    checkpoint = time.process_time() - clock.validated
    ranking = clock.validated - clock.stepped[-1]
    return {"training s": clock.stepped[-1] - clock.begun + checkpoint, "validation s": ranking}


def line(items: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """a, b and the largest relative residual of seconds = a + b x items, by least squares of the relative residuals."""
    x, y = np.array(items, float), np.array(seconds, float)
    b, a = np.polyfit(x, y, 1, w=1 / y)
    return float(a), float(b), float(np.abs((a + b * x) / y - 1).max())


def training(cell: Cell, step: float) -> float:
    """Seconds of a whole epoch without its validation, at so many a step."""
    return cell["batches s"] + cell["steps"] * step + cell["checkpoint s"]


def validation(cell: Cell, users: int) -> float:
    """Seconds to rank all items for every user once."""
    return cell["once s"] + users * cell["a user s"]


def time_of(seconds: float) -> str:
    """In hours, minutes or seconds."""
    if seconds >= 6000:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.2f} s"


def report(cells: Mapping[Key, Cell], checks: Mapping[Key, tuple[Cell, Cell]]) -> None:
    """Parts, lines, epochs and the check, as Markdown; `checks` holds an epoch's parts and it itself."""
    of = {name: [key for key in cells if key[0] == name] for name in dict.fromkeys(key[0] for key in cells)}
    lines = {name: line([k[1] for k in keys], [cells[k]["step s"] for k in keys]) for name, keys in of.items()}

    def fitted(key: Key) -> float:
        return lines[key[0]][0] + lines[key[0]][1] * key[1]

    def table(*columns: str) -> None:
        print(f"\n| {' | '.join(('objective', 'items', 'users', *columns))} |\n|{'---|' * (3 + len(columns))}")

    print("Measured parts:")
    table("targets a step", "s a step", "by the line", "batches s", "checkpoint s", "ranking ms a user", "peak MiB")
    for key, cell in cells.items():
        print(
            f"| {key[0]} | {key[1]:,} | {key[2]:,} | {cell['targets']:,.0f} | {cell['step s']:.4f} | {fitted(key):.4f} "
            f"| {cell['batches s']:.2f} | {cell['checkpoint s']:.2f} | {1000 * cell['a user s']:.3f} "
            f"| {cell['peak MiB']:,.0f} |"
        )
    print("\nThe lines:\n")
    for name, (a, b, residual) in lines.items():
        print(f"- {name}: s a step = {a:.4f} + {1000 * b:.6f} x items / 1,000; largest residual {residual:.1%}")
    print("\nEpochs, all extrapolated from those parts:")
    table("steps", "training", "training by the line", "validation of all users")
    for key, cell in cells.items():
        extrapolated = training(cell, cell["step s"]), training(cell, fitted(key)), validation(cell, key[2])
        print(f"| {key[0]} | {key[1]:,} | {key[2]:,} | {cell['steps']:,} | {' | '.join(map(time_of, extrapolated))} |")
    print("\nEpochs run whole, beside their extrapolation:")
    table("training, measured", "extrapolated", "by the line", "validation, measured", "extrapolated")
    for key, (parted, whole) in checks.items():
        trained_s = whole["training s"], training(parted, parted["step s"]), training(parted, fitted(key))
        times = *trained_s, whole["validation s"], validation(parted, key[2])
        print(f"| {key[0]} | {key[1]:,} | {key[2]:,} | {' | '.join(map(time_of, times))} |")


def main(
    items: Annotated[str, typer.Option(help="Separated by commas; at least two.")] = "10000,30000,100000,300000",
    users: Annotated[str, typer.Option(help="Separated by commas.")] = "100000,1000000",
    steps: Annotated[int, typer.Option(help="Measured of every cell.", min=2)] = 8,
    whole: Annotated[int, typer.Option(help="Users of the epoch that is run whole.")] = 10_000,
    only: Annotated[str | None, typer.Option(help="Internal: one cell in this process, as JSON.")] = None,
) -> None:
    """Measure every cell in a process of its own and print the tables."""
    torch.set_num_threads(1)
    if only:
        name, size, count, measured = json.loads(only)
        found = parts(name, size, count, measured) if measured else whole_epoch(name, size, count)
        print(json.dumps(found))
        return

    @cache
    def cell(objective: str, items: int, users: int, steps: int) -> Cell:
        command = [sys.executable, "-m", "benchmarks.scale", "--only", json.dumps([objective, items, users, steps])]
        root, env = Path(__file__).parent.parent, os.environ | {"OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, capture_output=True, text=True, cwd=root, env=env, check=False)
        if run.returncode:
            raise SystemExit(f"{objective}, {items} items, {users} users failed:\n{run.stderr[-3000:]}")
        found: Cell = json.loads(run.stdout)
        print(f"{objective}, {items:,} items, {users:,} users: {found}", file=sys.stderr, flush=True)
        return found

    sizes = [int(word) for word in items.split(",")]
    counts = [int(word) for word in users.split(",")]
    keys = [(name, size, count) for name in OBJECTIVES for size in sizes for count in counts]
    checked = [(name, min(sizes), whole) for name in OBJECTIVES]
    report({key: cell(*key, steps) for key in keys}, {key: (cell(*key, steps), cell(*key, 0)) for key in checked})
    print(f"\nPeak of a process that has only imported torch and the rest: {peak_mib():,.0f} MiB.")


if __name__ == "__main__":
    typer.run(main)
