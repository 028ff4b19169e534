"""The chart of an experiment table as one SVG file, to be committed beside a page of docs that shows it.

    svg(figures(name, data, seeds, against))

Left NDCG@10 of each row with its 95 % interval over users, right its difference from the reference with the bootstrap
interval: the dots of `molar experiment report`, where names and figures are cells of a table. Here all is drawn, on a
ground of its own, light or dark as the reader's system is, so that it can be read on any page. The same figures give
the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from html import escape

from pipeline.errors import MolarError
from pipeline.experiments.figures import Figures
from pipeline.report import dots
from pipeline.report.charts import ticks
from pipeline.report.intervals import Dot, label, span

WIDTH, EDGE = 820, 18  # pixels; what GitHub gives a page of docs
ROW, HEAD, AXIS = 30, 74, 22  # heights: a row, title with heads, the figures of an axis
CHARACTER = 7.6  # width of a letter of a name, on average and rather too wide
NAMES = (90, 230)  # least and most width of the names
FIGURES = 58  # width of the figures right of a panel
LINE, LETTERS = 16, 126  # of the words beneath

STYLE = """
svg { --ink: #1d1f23; --soft: #5d636d; --ground: #fff; --line: #e3e1dc; --mark: #3f6394; --strong: #9a4b1f; }
@media (prefers-color-scheme: dark) { svg { --ink: #e9e7e2; --soft: #a3a9b3; --ground: #17181b; --line: #3a3d44;
  --mark: #8fb0dd; --strong: #e39a6a; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); } .small { font-size: 11px; fill: var(--soft); }
.title { font-size: 15px; font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.ground { fill: var(--ground); } .grid { stroke: var(--line); } .line { stroke: var(--soft); stroke-dasharray: 3 3; }
g { --colour: var(--mark); } g.strong { --colour: var(--strong); } g.strong .name { font-weight: 600; }
.reach { stroke: var(--colour); stroke-width: 2.5; } .seed { fill: var(--soft); }
.mean { fill: var(--colour); stroke: var(--colour); stroke-width: 2; } .mean.open { fill: var(--ground); }
"""


def svg(found: Figures) -> str:
    """The whole file. Raises MolarError: nothing of the table has been computed."""
    if dots.reference(found) is None and not any(row.seeds for row in found.rows):
        raise MolarError(
            f"{found.name} on {found.data}: nothing has been computed to be drawn: `molar experiment run {found.name}`"
        )
    means, differences = dots.means(found), {dot.name: dot for dot in dots.differences(found)}
    beside = [differences.get(dot.name, Dot(dot.name, "")) for dot in means]
    names = min(max(NAMES[0], CHARACTER * max(len(dot.name) for dot in means)), NAMES[1])
    width = (WIDTH - 2 * EDGE - names) / 2
    lefts = (EDGE + names, EDGE + names + width)
    words = textwrap.wrap(_words(found), LETTERS)
    foot = HEAD + ROW * len(means) + AXIS
    height = foot + LINE * len(words) + EDGE
    title = f"{found.table.title}, on {found.data}"
    heads = ("NDCG@10", f"difference from {found.reference}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><desc>{escape(_described(means, differences))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text class="title" x="{EDGE}" y="30">{escape(title)}</text>',
    ]
    for left, head, rows, line in zip(lefts, heads, (means, beside), (dots.reference(found), 0.0), strict=True):
        parts.append(f'<text class="small" x="{left + 8:.1f}" y="{HEAD - 14}">{escape(head)}</text>')
        parts += _panel(rows, line, left + 8, left + width - FIGURES - 8)
    for place, dot in enumerate(means):
        strong = ' class="strong"' * dot.strong
        parts.append(f'<g{strong}><text class="name" x="{EDGE}" y="{_middle(place) + 4}">{escape(dot.name)}</text></g>')
    parts += [
        f'<text class="small" x="{EDGE}" y="{foot + LINE * (place + 1)}">{escape(line)}</text>'
        for place, line in enumerate(words)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(rows: Sequence[Dot], line: float | None, left: float, right: float) -> list[str]:
    """Grid, dots and figures of one axis, between those two x; of rows without a value only what they say."""
    parts, ends = [], span(rows, line)
    bottom = HEAD + ROW * len(rows)
    if ends is not None:
        low, high = ends

        def x(value: float) -> str:
            return f"{left + (value - low) / (high - low) * (right - left):.1f}"

        for tick in ticks(low, high):
            parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{HEAD - 6}" y2="{bottom}"/>')
            parts.append(f'<text class="small middle" x="{x(tick)}" y="{bottom + 14}">{label(tick)}</text>')
        if line is not None:
            parts.append(f'<line class="line" x1="{x(line)}" x2="{x(line)}" y1="{HEAD - 6}" y2="{bottom}"/>')
        parts += [_marks(dot, _middle(place), x) for place, dot in enumerate(rows) if dot.value is not None]
    parts += [
        f'<text class="small end" x="{right + FIGURES:.1f}" y="{_middle(place) + 4}">{escape(dot.figures)}</text>'
        for place, dot in enumerate(rows)
    ]
    return parts


def _marks(dot: Dot, y: int, x: Callable[[float], str]) -> str:
    assert dot.value is not None
    seeds = dot.seeds.values() if len(dot.seeds) > 1 else ()
    return (
        f'<g class="{"strong" if dot.strong else "row"}"><title>{escape(dot.title)}</title>'
        f'<line class="reach" x1="{x(dot.low)}" x2="{x(dot.high)}" y1="{y}" y2="{y}"/>'
        f'<circle class="mean{"" if dot.filled else " open"}" cx="{x(dot.value)}" cy="{y}" r="4.5"/>'
        + "".join(f'<circle class="seed" cx="{x(seed)}" cy="{y + 10}" r="2"/>' for seed in seeds)
        + "</g>"
    )


def _middle(place: int) -> int:
    """Of a row, from the top."""
    return HEAD + ROW * place + ROW // 2 - 3


def _words(found: Figures) -> str:
    """What is drawn, and of how much."""
    seeds = sorted({seed for row in found.rows for seed in row.seeds})
    listed = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    small = "Small dots: seeds. " if len(seeds) > 1 else ""
    return (
        f"{found.queries:,} test queries, {listed}. Lines: 95 % intervals over users, left 1.96 standard errors, right "
        f"bootstrap{' with the luck of seeds' * bool(found.luck)}. Filled on the right: p below {dots.sure()} after "
        f"Holm's correction. {small}Dashed: {found.reference}. The axes do not begin at 0."
    )


def _described(means: Sequence[Dot], differences: dict[str, Dot]) -> str:
    """All figures in words, for a reader of the screen."""
    told = []
    for dot in means:
        other = differences.get(dot.name)
        told.append(f"{dot.name}: {dot.title or dot.figures}" + (f"; {other.title or other.figures}" if other else ""))
    return ". ".join(told) + "."
