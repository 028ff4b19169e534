"""Charts as HTML and SVG without a script: bars with their intervals, curves, tables whose cells are shaded.

Bars and tables are HTML, so that their words keep their size on a phone; curves are SVG that fills its column. Colours
come from the page's style and turn with it; each chart says in words what it shows (`aria-label`, captions), and every
number drawn is also written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pipeline.retrieval.metrics import short

# Paul Tol's "bright" scheme, told apart with any kind of colour vision, on white and on near-black
COLOURS = ("#4477aa", "#ee6677", "#228833", "#b58900", "#66ccee", "#aa3377", "#888888")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 270, 52, 10, 10, 38
TICKS = 4

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .35rem .7rem; align-items: center; }
.bars .track { position: relative; height: 1.1rem; background: var(--line); border-radius: .25rem; }
.bars .bar { height: 100%; background: var(--bar); border-radius: .25rem; }
.bars .strong { background: var(--accent); }
.bars .whisker { position: absolute; top: 50%; height: 2px; background: var(--ink); }
.bars .number { font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; position: relative; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
caption { text-align: left; color: var(--soft); padding: 1.4rem 0 .3rem; }
h2 + .wide caption, h2 + .pair caption { padding-top: 0; }
caption span { position: sticky; left: 0; display: inline-block; max-width: min(100%, calc(100vw - 2.5rem)); }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 500; }
tr.strong td, tr.strong th { font-weight: 700; } tbody th { font-weight: 400; }
table.facts { max-width: 36rem; } .facts th, .facts td { white-space: normal; } .facts td { overflow-wrap: anywhere; }
@media (max-width: 30rem) { th, td { padding: .3rem .4rem; } }
td.shaded { background: color-mix(in srgb, var(--bar) calc(var(--share) * 55%), transparent); }
svg.curves { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.curves text { fill: var(--soft); } .curves .grid { stroke: var(--line); }
.curves polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; color: var(--soft); }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .35rem;
  vertical-align: -.08rem; }
"""


@dataclass(frozen=True)
class Bar:
    """A value and its interval; `strong` is the row that the page is about."""

    name: str
    value: float
    low: float
    high: float
    strong: bool = False


def bars(label: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from 0, whiskers over their intervals, the value beside each."""
    top = max((row.high for row in rows), default=0.0) or 1.0
    parts = [f'<div class="bars" role="group" aria-label="{escape(label)}">']
    for row in rows:
        low, high = max(row.low, 0.0) / top, row.high / top
        strong = " strong" if row.strong else ""
        parts.append(
            f'<span>{escape(row.name)}</span><span class="track" aria-hidden="true">'
            f'<span class="bar{strong}" style="display:block;width:{row.value / top:.2%}"></span>'
            f'<span class="whisker" style="left:{low:.2%};width:{high - low:.2%}"></span></span>'
            f'<span class="number">{short(row.value)}</span>'
        )
    return "\n".join([*parts, "</div>"])


def table(caption: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]], strong: str | None = None) -> str:
    """A row a name, its cells already words; the first of `columns` heads the names (empty: no head)."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr{" class=strong" if name == strong else ""}><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows.items()
    )
    return _table(caption, head, body)


def shaded(caption: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> str:
    """A table of numbers, the larger the darker; None is a dash."""
    top = max((value for cells in rows.values() for value in cells if value is not None), default=0.0) or 1.0

    def cell(value: float | None) -> str:
        if value is None:
            return f"<td>{short(value)}</td>"
        return f'<td class="shaded" style="--share:{max(value, 0) / top:.3f}">{short(value)}</td>'

    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(cell, cells))}</tr>' for name, cells in rows.items()
    )
    return _table(caption, head, body)


def _table(caption: str, head: str, body: str) -> str:
    """In a box that scrolls by itself, the caption staying in sight."""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{'' if head else ' class=facts'}><caption><span>{escape(caption)}</span></caption>\n"
        + (f"<thead><tr>{head}</tr></thead>\n" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def curves(label: str, across: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines over one pair of axes, `across` under the horizontal one; a legend that gives each line's last value."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    (left, right), (low, high) = _span([x for x, _ in points]), _span([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks(low, high):
        y = place(left, tick)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(left, right):
        parts.append(f'<text x="{place(tick, low)[0]:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>')
    legend = []
    for (name, line), colour in zip(series.items(), COLOURS, strict=False):
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{drawn}" stroke="{colour}"/>')
        legend.append(f'<span><i style="background:{colour}"></i>{escape(name)} ({line[-1][1]:.4g})</span>')
    return "\n".join([*parts, "</svg>", f'<div class="legend">{"".join(legend)}</div>'])


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from low to high."""
    rough = (high - low) / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = min((m * magnitude for m in (1, 2, 5, 10)), key=lambda step: abs(step - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the smallest to the largest, widened where they are one."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
