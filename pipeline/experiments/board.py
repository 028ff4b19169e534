"""The progress table of a run: a line for each stage that is computed, one for all that come from the cache.

On a terminal the last line moves with the clock, one for each of several rows in flight; in a log these are left out.
Every line names its row and seed, and its device where there are several, so that rows may be told in any order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Group
from rich.live import Live
from rich.text import Text

from pipeline.experiments.points import Point
from pipeline.experiments.records import StageRun
from pipeline.progress import console, say

WIDTHS = (20, 4, 22, 8, 11)  # row, seed, stage, elapsed, how; the device comes last


class Lane:
    """Lines of the point that one device computes; `numbers` counts the points of all of them, up to `total`."""

    def __init__(self, total: int, numbers: Iterator[int], device: str) -> None:
        self.total, self.device = total, device
        self.runs: list[StageRun] = []
        self._numbers, self._number = numbers, 0
        self._point: Point | None = None
        self._stage = ""
        self._waits = False
        self._from_cache = 0
        self._start = time.monotonic()

    def begin(self, point: Point) -> None:
        self._number = next(self._numbers)
        self.runs, self._point = [], point
        self._stage, self._from_cache, self._start = "", 0, time.monotonic()

    def computing(self, stage: str) -> None:
        """A stage has begun to run."""
        self._close()
        self._tell_cached()
        self._stage, self._start = stage, time.monotonic()

    def cached(self, stage: str) -> None:
        """A stage's outs have come from the run-cache, or were there; what has been told of it once is enough."""
        if self._stage:
            self._close()
            self._start = time.monotonic()
        if all(run.stage != stage for run in self.runs):
            self._from_cache += 1
            self.runs.append(StageRun(stage, "from cache", 0.0))

    def pause(self, waits: bool) -> None:
        """What has begun is done; the next stage begins, or `waits` for another lane, which computes it."""
        if self._stage or waits != self._waits:
            self._close()
            self._start = time.monotonic()
        self._waits = waits

    def end(self, how: Literal["done", "failed", "ended"] = "done") -> list[StageRun]:
        """The point is done, or not to be done; what each stage took."""
        if how != "done" and self._point:
            self._line(self._stage or "-", how)
        elif how == "done":
            self._close()
            self._tell_cached()
        self._point, self._stage, self._waits = None, "", False
        return self.runs

    def _close(self) -> None:
        if self._stage:
            self.runs.append(StageRun(self._stage, "computed", round(time.monotonic() - self._start, 2)))
            self._line(self._stage, "computed")
            self._stage = ""

    def _tell_cached(self) -> None:
        if self._from_cache:
            self._line(f"{self._from_cache} stage{'s' * (self._from_cache > 1)}", "from cache")
            self._from_cache = 0

    def _line(self, stage: str, how: str) -> None:
        assert self._point is not None
        elapsed = clock(time.monotonic() - self._start)
        say(_columns(self._point.row, str(self._point.seed), stage, elapsed, how, self.device))

    def __rich__(self) -> Text:
        """The moving line."""
        point = self._point  # a worker may end it meanwhile
        if point is None:
            return Text()
        elapsed = clock(time.monotonic() - self._start)
        stage = "waits for another row" if self._waits else self._stage or "looking"
        line = _columns(point.row, str(point.seed), stage, elapsed, f"run {self._number} of {self.total}", self.device)
        return Text(line, "dim", no_wrap=True, overflow="ellipsis")


@contextmanager
def board(total: int, devices: Sequence[str] = ("",)) -> Iterator[list[Lane]]:
    """The table for `total` points, its head first; a lane for each device."""
    numbers = itertools.count(1)
    lanes = [Lane(total, numbers, device) for device in devices]
    say(_columns("row", "seed", "stage", "elapsed", "", ""))
    if not console.is_terminal:
        yield lanes
        return
    with Live(Group(*lanes), console=console, refresh_per_second=4, transient=True):
        yield lanes


def clock(seconds: float) -> str:
    """h:mm:ss, without hours where there are none."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _columns(row: str, seed: str, stage: str, elapsed: str, how: str, device: str) -> str:
    cut = row if len(row) <= WIDTHS[0] else f"{row[: WIDTHS[0] - 1]}…"
    a, b, c, d, e = WIDTHS
    return f"  {cut:<{a}} {seed:>{b}}  {stage:<{c}} {elapsed:>{d}}  {how:<{e}} {device}".rstrip()
