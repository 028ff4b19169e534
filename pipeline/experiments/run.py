"""Compute what a table lacks: each row and seed by `dvc repro` in a clone, its result kept as a record.

Promise: what has a record is not run; what any earlier run has computed comes from DVC's run-cache; a kill at any
moment leaves no process and no half record, and the same command goes on. One row after the other, or, where
MOLAR_DEVICES names several devices, as many at once (parallel.py).
"""

from __future__ import annotations

import fcntl
import signal
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import MolarError
from pipeline.experiments import records
from pipeline.experiments.board import Lane, board, clock
from pipeline.experiments.clone import Clone, made, missing_data
from pipeline.experiments.committed import Committed
from pipeline.experiments.devices import devices, labels
from pipeline.experiments.forecast import forecast
from pipeline.experiments.guard import GRACE_SECONDS
from pipeline.experiments.parallel import at_once
from pipeline.experiments.points import MOST_SEEDS, Point, lacking, points_of
from pipeline.experiments.row import compute
from pipeline.experiments.table import Table, load_table
from pipeline.progress import say


def run(name: str, data: str | None, seeds: Sequence[int], only: Sequence[str] = (), keep_going: bool = False) -> None:
    """Bring the table's records up to date. Raises MolarError: the file, a checkpoint, raw data or a row's run."""
    if max(seeds) >= MOST_SEEDS:
        raise MolarError(f"--seeds {len(seeds)}: at most {MOST_SEEDS}, for show, report and push look for no others")
    table, committed, places = load_table(name), Committed(Path.cwd()), devices()
    data = data or next(iter(table.data))
    points = points_of(name, table, committed, data, seeds, only)
    rows = len({point.row for point in points})
    points = _with_checkpoints(points, table, committed.root, keep_going)
    if not points:
        raise MolarError(f"{name} on {data}: 0 of {rows} row{'s' * (rows != 1)} can be computed")
    for path in committed.changed(point.values for point in points):
        say(f"mind: {path} has changes that are not committed; rows are computed from commit {committed.sha[:10]}")
    runs: dict[str, Point] = {}  # of several points with one address the first
    for point in points:
        runs.setdefault(point.address, point)
    todo = [point for address, point in runs.items() if not records.find(committed.root, address)]
    done = len(runs) - len(todo)
    if not todo:
        say(f"{name} on {data}: nothing to compute, {_runs(done)} there; `{_show(name, table, data)}`")
        return
    with _alone(committed.root / records.FOLDER / "lock") as lock, _terminable():
        clones = _clones(committed, places[: len(todo)], lock.fileno())
        lacks = missing_data(clones[0], committed, todo)
        if lacks:
            raise MolarError(lacks)
        _announce(name, data, todo, done, committed, clones)
        with board(len(todo), labels(places[: len(clones)])) as lanes:
            if len(clones) > 1:
                failures = at_once(todo, committed, clones, lanes, lock.fileno(), keep_going)
            else:
                failures = _in_turn(todo, committed, clones[0], lanes[0], lock.fileno(), keep_going)
    if failures:
        raise MolarError(f"{len(failures)} of {_runs(len(todo))} failed, the others are there: " + "; ".join(failures))
    say(f"{name} on {data}: {_runs(done + len(todo))} there; `{_show(name, table, data)}`")


def _clones(committed: Committed, places: Sequence[str], lock: int) -> list[Clone]:
    """clone, clone-1, ...: one for each device; where none is named, one."""
    folder = committed.root / records.FOLDER / "clone"
    first = made(committed, folder, lock, places[0] if places else None)
    others = enumerate(places[1:], 1)
    return [first, *(made(committed, folder.with_name(f"clone-{n}"), lock, device, first) for n, device in others)]


def _in_turn(
    todo: Sequence[Point], committed: Committed, clone: Clone, lane: Lane, lock: int, keep_going: bool
) -> list[str]:
    """Compute one after the other; what failed. Raises MolarError without `keep_going`: one has."""
    failures = []
    for point in todo:
        try:
            compute(point, committed, clone, lane, lock)
        except MolarError as error:
            lane.end("failed")
            if not keep_going:
                raise
            failures.append(str(error))
    return failures


def _with_checkpoints(points: list[Point], table: Table, root: Path, keep_going: bool) -> list[Point]:
    """The points that have what they need. Raises MolarError unless `keep_going`: there are others."""
    refused = {point.row: lacking(table, point.row, point.data, root) for point in points}
    by_folder: dict[tuple[str, str], list[str]] = {}
    for row, folders in refused.items():
        for folder, what in folders.items():
            by_folder.setdefault((folder, what), []).append(row)
    lines = [
        f"{', '.join(rows)} need{'s' * (len(rows) == 1)} {what}: hf download {_repository(what)} --local-dir {folder}"
        for (folder, what), rows in by_folder.items()
    ]
    if lines and not keep_going:
        raise MolarError("; ".join(lines) + " (or leave such rows out: --only ROW, --keep-going)")
    for line in lines:
        say(f"left out: {line}")
    return [point for point in points if not refused[point.row]]


def _repository(what: str) -> str:
    """`id@revision`, as `hf download` wants to be told it."""
    return what.replace("@", " --revision ")


def _announce(
    name: str, data: str, todo: Sequence[Point], done: int, committed: Committed, clones: Sequence[Clone]
) -> None:
    """What is about to be computed, and how long that took before."""
    counts = Counter(stage for stage, _ in forecast(todo, committed, clones[0]))
    known = records.durations(committed.root, todo[0].raw)
    there = f", {done} there" if done else ""
    say(f"{name} on {data}, commit {committed.sha[:10]}: {_runs(len(todo))} to go{there}")
    if not counts:
        say("every stage of them is in the run-cache: nothing to compute")
        return
    listed = ", ".join(f"{counts[stage]}\u00a0{stage}" for stage in committed.stages if stage in counts)
    total = sum(counts.values())
    say(f"at most {total} stage{'s' * (total != 1)} to compute, the rest is in the run-cache:")
    lines = textwrap.wrap(listed, 78, initial_indent="  ", subsequent_indent="  ")
    say("\n".join(lines).replace("\u00a0", " "))  # a number and its stage stay on one line
    if set(counts) <= set(known):
        seconds = sum(known[stage] * count for stage, count in counts.items())
        shared = f", shared by {len(clones)} devices" * (len(clones) > 1)
        say(f"about {clock(seconds)} by what each stage took on this data and such a machine before{shared}")


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _show(name: str, table: Table, data: str) -> str:
    """The command that shows what has just been computed."""
    return f"molar experiment show {name}" + (f" --data {data}" if data != next(iter(table.data)) else "")


@contextmanager
def _alone(path: Path) -> Iterator[IO[str]]:
    """Hold the lock, which the guard of a killed run holds until all below it has ended. Raises MolarError: in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MolarError("`molar experiment run` is already running here: wait for it or end it") from None
                time.sleep(0.1)
        yield handle


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what it started is ended before it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
