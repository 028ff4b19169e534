"""A sheet of `pipeline.experiments.sheet` as an HTML table: the words and marks of `molar experiment show`.

Each stands in a box that scrolls by itself, so that the page never does; the row's name and the caption stay in sight.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.experiments.figures import Figures
from pipeline.experiments.sheet import MISSING, Cell, Sheet

STYLE = """
table.sheet { width: auto; min-width: min(100%, 36rem); } .pair table.sheet { min-width: 100%; }
.pair .sheet th, .pair .sheet td { padding: .3rem .4rem; } .pair .sheet thead th { white-space: normal; }
@media (max-width: 30rem) { .sheet { font-size: .9rem; } .sheet thead th { white-space: normal; } }
.sheet tr > :first-child { position: sticky; left: 0; background: var(--ground); }
.sheet thead td { border: 0; } .sheet .of { text-align: left; } .sheet .papers { color: var(--soft);
  font-style: italic; background: var(--card); } .sheet .missing { color: var(--soft); font-style: italic; }
.sheet .place { display: inline-block; width: .6em; text-align: left; line-height: 1; font-size: .7em;
  vertical-align: super; } .sheet u { text-underline-offset: .2em; }
.sheet td.prose { text-align: left; white-space: pre-line; overflow-wrap: anywhere; min-width: 12rem; }
.sheet th.prose { text-align: left; }
"""


def sheet_table(sheet: Sheet, found: Figures | None = None, shaded: bool = False, prose: bool = False) -> str:
    """A sheet as a table. With `found` columns called the paper's stand under a head that says so; `shaded` figures are
    the darker the larger, `prose` is read from the left."""
    marked = [any(row[index].place for row in sheet.rows) for index in range(len(sheet.columns))]
    papers = [found is not None and column.startswith("paper ") for column in sheet.columns]
    top = max((cell.value for row in sheet.rows for cell in row if cell.value is not None), default=0.0) or 1.0
    heads = "".join(
        f'<th scope="col"{" class=papers" if paper else " class=prose" if prose else ""}>'
        f"{escape(_head(column, paper))}</th>"
        for column, paper in zip(sheet.columns, papers, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(name.text)}</th>'
        + "".join(
            _cell(cell, has, paper, (cell.value or 0.0) / top if shaded else 0.0, prose)
            for cell, has, paper in zip(cells, marked[1:], papers[1:], strict=True)
        )
        + "</tr>"
        for name, *cells in sheet.rows
    )
    caption = escape(sheet.title)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="sheet"><caption><span>{caption}</span></caption>\n{_groups(papers, found)}'
        f"<tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _groups(papers: Sequence[bool], found: Figures | None) -> str:
    """The head over the heads, where there are columns of the paper's; opens the table's head."""
    theirs, ours = sum(papers), len(papers) - 1 - sum(papers)
    if not theirs or found is None:
        return "<thead>"
    on = found.table.paper_data(found.data)
    return (
        f'<colgroup></colgroup><colgroup span="{ours}"></colgroup><colgroup span="{theirs}"></colgroup>\n<thead><tr>'
        f'<td></td><th scope="colgroup" class="of" colspan="{ours}">ours, on {escape(found.data)}</th>'
        f'<th scope="colgroup" class="of papers" colspan="{theirs}">the paper\'s, on {escape(str(on))}</th></tr>'
    )


def _head(column: str, paper: bool) -> str:
    column = column.removeprefix("paper ") if paper else column
    return column.replace("N@10", "NDCG@10").replace("R@10", "Recall@10")


def _cell(cell: Cell, marked: bool, paper: bool, share: float, prose: bool) -> str:
    kinds = ["papers"] * paper + ["missing"] * (cell.text == MISSING) + ["shaded"] * (share > 0) + ["prose"] * prose
    text = escape(cell.text)
    if cell.place:
        mark, said = {1: ("strong", "best"), 2: ("u", "second best")}[cell.place]
        text = f'<{mark}>{text}</{mark}><span class="sr"> {said}</span>'
    if marked:
        text += f'<span class="place" aria-hidden="true">{cell.place or ""}</span>'
    classes = f' class="{" ".join(kinds)}"' if kinds else ""
    shade = f' style="--share:{share:.3f}"' if share > 0 else ""
    return f"<td{classes}{shade}>{text}</td>"
