"""The progress table of a run: a line for each stage that is computed, one for all that come from the cache.

On a terminal the last line moves with the clock; in a log it is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.text import Text

from pipeline.experiments.points import Point
from pipeline.experiments.records import StageRun
from pipeline.progress import console, say

WIDTHS = (20, 4, 22, 8)  # row, seed, stage, elapsed


class Board:
    """Lines of the point that is being computed; `count` of `total` is its number."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.runs: list[StageRun] = []
        self._point: Point | None = None
        self._stage = ""
        self._from_cache = 0
        self._start = time.monotonic()

    def begin(self, point: Point) -> None:
        self.count += 1
        self.runs, self._point = [], point
        self._stage, self._from_cache, self._start = "", 0, time.monotonic()

    def computing(self, stage: str) -> None:
        """A stage has begun to run."""
        self._close()
        self._tell_cached()
        self._stage, self._start = stage, time.monotonic()

    def cached(self, stage: str) -> None:
        """A stage's outs have come from the run-cache, or were there."""
        if self._stage:
            self._close()
            self._start = time.monotonic()
        self._from_cache += 1
        self.runs.append(StageRun(stage, "from cache", 0.0))

    def end(self, failed: bool = False) -> list[StageRun]:
        """The point is done; what each stage took."""
        if failed and self._point:
            self._line(self._stage or "-", "failed")
        elif not failed:
            self._close()
            self._tell_cached()
        self._point, self._stage = None, ""
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
        say(_columns(self._point.row, str(self._point.seed), stage, clock(time.monotonic() - self._start), how))

    def __rich__(self) -> Text:
        """The moving line."""
        if self._point is None:
            return Text()
        elapsed = clock(time.monotonic() - self._start)
        how = f"run {self.count} of {self.total}"
        return Text(_columns(self._point.row, str(self._point.seed), self._stage or "looking", elapsed, how), "dim")


@contextmanager
def board(total: int) -> Iterator[Board]:
    """The table for `total` points, its head first."""
    shown = Board(total)
    say(_columns("row", "seed", "stage", "elapsed", ""))
    if not console.is_terminal:
        yield shown
        return
    with Live(shown, console=console, refresh_per_second=4, transient=True):
        yield shown


def clock(seconds: float) -> str:
    """h:mm:ss, without hours where there are none."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _columns(row: str, seed: str, stage: str, elapsed: str, how: str) -> str:
    cut = row if len(row) <= WIDTHS[0] else f"{row[: WIDTHS[0] - 1]}…"
    a, b, c, d = WIDTHS
    return f"  {cut:<{a}} {seed:>{b}}  {stage:<{c}} {elapsed:>{d}}  {how}".rstrip()
