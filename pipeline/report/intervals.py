"""Dots with their intervals, a row each, over one axis: a table whose middle cells are drawn.

Names and figures are cells of a real table, so that a screen reader has them and their letters keep their size on a
phone; only the dots are SVG, a strip a row, that stretches to its column, each with a title that says what it draws.
Where a row has several seeds, small dots under the interval are the seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from pipeline.report.charts import ticks

MARGIN = 5.0  # per cent of the strip, left and right of the outermost mark
LINE, SMALL = 20, 14  # pixels, of a figure and of each line under it

STYLE = """
table.dots { table-layout: fixed; max-width: 36rem; }
.dots col.names { width: 28%; } .dots col.figures { width: 6.8rem; }
.dots th, .dots td { border: 0; padding: 0; } .dots tbody th { white-space: normal; overflow-wrap: anywhere;
  padding-right: .5rem; font-size: .9rem; line-height: 1.2; } .dots td.figures { font-size: .9rem; line-height: 1.2; }
.dots small { display: block; font-weight: 400; font-size: .72rem; color: var(--soft); }
.track { display: block; width: 100%; overflow: visible; font: 11px system-ui, sans-serif; }
.track text { fill: var(--soft); } .track .grid { stroke: var(--line); }
.track .line { stroke: var(--soft); stroke-dasharray: 3 3; }
.track .reach { stroke: var(--mark); stroke-width: 2.5; }
.track .mean { fill: var(--mark); stroke: var(--mark); stroke-width: 2; }
.track .mean.open { fill: var(--ground); } .track .seed { fill: var(--soft); }
.dots tr { --mark: var(--bar-ink); } .dots tr.strong { --mark: var(--accent); }
:root { --bar-ink: #3f6394; } @media (prefers-color-scheme: dark) { :root { --bar-ink: #8fb0dd; } }
@media (max-width: 30rem) { .track .every-other { display: none; } }
"""


@dataclass(frozen=True)
class Dot:
    """A value between the ends of its interval; none where there is nothing to draw, as `figures` then says."""

    name: str
    figures: str
    beneath: Sequence[str] = ()  # smaller lines under the figures
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    seeds: dict[int, float] = field(default_factory=dict)
    title: str = ""  # of what is drawn, in words
    strong: bool = False
    filled: bool = True


def chart(caption: str, heads: tuple[str, str], rows: Sequence[Dot], line: float | None) -> str:
    """The table; `heads` are above names and figures, `line` is where a dashed one crosses all rows. Empty without a
    value."""
    ends = span(rows, line)
    if ends is None:
        return ""
    low, high = ends

    def place(x: float) -> str:
        return f"{MARGIN + (x - low) / (high - low) * (100 - 2 * MARGIN):.2f}%"

    height = LINE + SMALL * max(1, *(len(row.beneath) for row in rows))
    uprights = [("grid", place(tick)) for tick in ticks(low, high)] + ([] if line is None else [("line", place(line))])
    grid = "".join(f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{height}"/>' for kind, x in uprights)
    labels = "".join(
        f'<text{" class=every-other" * odd} x="{place(tick)}" y="14" text-anchor="middle">{label(tick)}</text>'
        for tick, odd in _alternating(ticks(low, high))
    )
    body = "\n".join(_row(row, height, grid, place) for row in rows)
    return (
        f'<table class="dots"><caption>{escape(caption)}</caption>\n'
        '<colgroup><col class="names"><col><col class="figures"></colgroup>\n'
        f'<thead><tr><th scope="col">{escape(heads[0])}</th>'
        f'<th scope="col"><svg class="track" height="20" role="img"><title>drawn</title>{labels}</svg>'
        f'</th><th scope="col">{escape(heads[1])}</th></tr></thead>\n<tbody>{body}</tbody></table>'
    )


def span(rows: Sequence[Dot], line: float | None) -> tuple[float, float] | None:
    """From the smallest to the largest of all that is drawn of them and of `line`; None where no row has a value."""
    marks = [x for row in rows if row.value is not None for x in (row.value, row.low, row.high, *row.seeds.values())]
    if not marks:
        return None
    marks += [] if line is None else [line]
    low, high = min(marks), max(marks)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _row(row: Dot, height: int, grid: str, place: Callable[[float], str]) -> str:
    beneath = "".join(f"<small>{escape(line)}</small>" for line in row.beneath)
    return (
        f'<tr{" class=strong" if row.strong else ""}><th scope="row">{_breakable(row.name)}</th>'
        f'<td><svg class="track" height="{height}" role="img"><title>{escape(row.title or row.figures)}</title>'
        f'{grid}{_marks(row, place)}</svg></td><td class="figures">{escape(row.figures)}{beneath}</td></tr>'
    )


def _breakable(name: str) -> str:
    """A name that is broken, where it must be, after what joins its parts."""
    return re.sub(r"([_+/-])(?=\w)", r"\1<wbr>", escape(name))


def _marks(row: Dot, place: Callable[[float], str]) -> str:
    if row.value is None:
        return ""
    seeds = row.seeds.values() if len(row.seeds) > 1 else ()
    return (
        f'<line class="reach" x1="{place(row.low)}" x2="{place(row.high)}" y1="13" y2="13"/>'
        f'<circle class="mean{"" if row.filled else " open"}" cx="{place(row.value)}" cy="13" r="4.5"/>'
        + "".join(f'<circle class="seed" cx="{place(seed)}" cy="26" r="2.3"/>' for seed in seeds)
    )


def _alternating(found: Sequence[float]) -> list[tuple[float, bool]]:
    """Ticks, every other one marked as what a narrow page leaves out; 0 stays."""
    step = found[1] - found[0] if len(found) > 1 else 1.0
    return [(tick, round(tick / step) % 2 == 1 and len(found) > 2) for tick in found]


def label(tick: float) -> str:
    """A figure of the axis, without its 0 before the point."""
    words = f"{tick:.6f}".rstrip("0").rstrip(".")
    return words.replace("0.", ".", 1) if abs(tick) < 1 else words
