"""Progress bars and the few words a stage says. Nothing here can change a result.

On a terminal the bar redraws with rate and remaining time; in a log (no terminal) a line is printed every
ten per cent or thirty seconds, whichever comes later, so that CI logs stay short and yet show life.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False, markup=False)  # a title may hold [brackets]

LOG_EVERY_SECONDS = 30.0


class Bar:
    """What a loop holds: `advance` by finished units, `note` anything worth seeing beside the bar."""

    def __init__(self, description: str, total: int | None, unit: str, rich_bar: Progress | None) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self._note = ""
        self._rich = rich_bar
        self._task = rich_bar.add_task(description, total=total, rate="", note="") if rich_bar else None
        self._start = self._said = time.monotonic()
        self._said_done = 0

    @property
    def rate(self) -> float:
        """Units per second since the bar was opened."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self.done, rate=f"{self.rate:,.1f} {self.unit}/s", note=self._note)
            return
        now, step = time.monotonic(), max((self.total or 0) / 10, 1)
        if now - self._said >= LOG_EVERY_SECONDS and self.done - self._said_done >= step:
            self._said, self._said_done = now, self.done
            of = f"/{self.total:,}" if self.total else ""
            say(f"  {self.description}: {self.done:,}{of} ({self.rate:,.1f} {self.unit}/s) {self._note}".rstrip())

    def note(self, text: str) -> None:
        """Show `text` (a loss, say) beside the bar from the next advance on."""
        self._note = text


@contextmanager
def bar(description: str, total: int | None = None, unit: str = "it") -> Iterator[Bar]:
    """A progress bar for one loop: ``with bar("encode items", total=n, unit="items") as b: b.advance(k)``."""
    if not console.is_terminal:
        yield Bar(description, total, unit, None)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as rich_bar:
        yield Bar(description, total, unit, rich_bar)


def say(line: str) -> None:
    """One line to the person watching (standard error, so that standard output stays data)."""
    console.print(line, soft_wrap=True)
