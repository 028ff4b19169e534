"""The page of an experiment table: how it differs from the paper, the comparison, who is served, what was run.

    page(figures(name, data, seeds, against))        the HTML, which opens anywhere, without a network

Every figure is one that `pipeline.experiments` computes for `molar experiment show`, in the same words and with the
same marks; nothing is computed here but places on an axis and, of the paper's figures and ours, changes in per cent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from pipeline.experiments.figures import Figures
from pipeline.experiments.provenance import Kept, Provenance, provenance
from pipeline.experiments.sheet import (
    MISSING,
    Cell,
    Sheet,
    bucket_sheets,
    lacking,
    main_sheet,
    measured,
    remarks,
)
from pipeline.report import charts, dots, intervals, sheets
from pipeline.report.page import sectioned
from pipeline.report.sheets import sheet_table
from pipeline.retrieval.metrics import short

DIGITS = 10  # of a commit

STYLE = (
    charts.STYLE
    + intervals.STYLE
    + sheets.STYLE
    + """
.lead { margin: .2rem 0 1rem; } .lead, .notes { color: var(--soft); }
.apart { border-left: 4px solid var(--accent); background: var(--card); padding: .7rem 1rem; margin: 0 0 .7rem; }
.apart p { color: var(--ink); } .apart p + p { margin-top: .4rem; }
.notes { padding-left: 1.1rem; margin: .9rem 0 0; font-size: .9rem; } .notes li { all: revert; border: 0; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
"""
)


def page(found: Figures) -> str:
    """The whole page."""
    origin = provenance(found)
    sections = {
        "Comparison": _comparison(found),
        "Beside the paper": _changes(found),
        "Who is served": _buckets(found),
        "What was run": _facts(found, origin),
    }
    return sectioned(f"{found.table.title}, on {found.data}", _lead(found, origin), sections, STYLE)


def _lead(found: Figures, origin: Provenance) -> str:
    """What was run in a line; how it is not the paper's setting, and what is missing, before any figure."""
    seeds = sorted({run.seed for run in origin.kept})
    runs = f"{_counted(origin.kept)}, {_listed('seed', seeds)}; {_listed('commit', origin.commits)}"
    line = f"{found.queries:,} test queries; {runs}" if origin.kept else "nothing has been computed yet"
    of_data, paper = found.table.data[found.data], any(row.paper for row in found.rows)
    said = []
    if paper or found.table.source:
        apart = f"Our data: {of_data.differs}." if of_data.differs else "The file does not say how our data differs."
        said.append(f"<strong>Not the paper's setting.</strong> {escape(apart)}")
        if paper:
            whose = f"{found.table.source or 'the paper'}, on {found.table.paper_data(found.data)}"
            said[-1] += f" Columns called the paper's hold figures of {escape(whose)}: not ours and not checked."
    elif of_data.differs:
        said.append(f"<strong>The data:</strong> {escape(of_data.differs)}.")
    said += [_prose(line) for line in remarks(found)]
    missing = " ".join(_prose(line) for line in lacking(found))
    return (
        f'<p class="lead">{escape(line)}</p>\n'
        + (f'<div class="apart">{"".join(f"<p>{line}</p>" for line in said)}</div>' if said else "")
        + (f'<div class="apart"><p><strong>Incomplete.</strong> {missing}</p></div>' if missing else "")
    )


def _prose(line: str) -> str:
    """A line of a note, `code` set as such."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(line))


def _counted(kept: Sequence[Kept]) -> str:
    return f"{len(kept)} run{'s' * (len(kept) != 1)}"


def _listed(what: str, values: Sequence[object]) -> str:
    words = [str(value)[:DIGITS] for value in values]
    return f"{what}{'s' * (len(words) > 1)} {', '.join(words)}"


def _comparison(found: Figures) -> str:
    """The table that `experiment show` prints, and two charts of it."""
    seeds = len({seed for row in found.rows for seed in row.seeds})
    small = f" Dashed: {found.reference}.{' Small dots: seeds.' if seeds > 1 else ''}"
    means = intervals.chart(
        "NDCG@10 and its 95 % interval over users (1.96 standard errors), which says how exact a row is by itself; "
        f"rows share their users, so that differences are told better.{small} The axis does not begin at 0.",
        ("row", "NDCG@10"),
        dots.means(found),
        dots.reference(found),
    )
    luck = ", with the luck of seeds" if found.luck else ""
    differences = intervals.chart(
        f"NDCG@10 of each row less that of {found.reference}, with its 95 % bootstrap interval over users{luck}."
        f"{small} Filled: p below {dots.sure()} after Holm's correction.",
        ("row", "difference"),
        dots.differences(found),
        0.0,
    )
    drawn = "".join(f"<div>{chart}</div>" for chart in (means, differences) if chart)
    notes = "".join(f"<li>{_prose(note)}</li>" for note in measured(found))
    sheet = replace(main_sheet(found, narrow=False), title="Every row, and how sure its difference is")
    return "\n".join(
        [
            sheet_table(sheet, found=found),
            f'<ul class="notes">{notes}</ul>' if notes else "",
            f'<div class="pair">{drawn}</div>',
            _by_seed(found) if seeds > 1 else "",
        ]
    )


def _by_seed(found: Figures) -> str:
    """The small dots as figures."""
    seeds = sorted({seed for row in found.rows for seed in row.seeds})
    rows = []
    for row in found.rows:
        values = dict(zip(row.seeds, row.values["ndcg@10"], strict=True))
        rows.append([Cell(row.row), *(Cell(short(values[s]) if s in values else MISSING) for s in seeds)])
    sheet = Sheet("NDCG@10 of each seed", ["row", *(f"seed {seed}" for seed in seeds)], rows)
    return f"<details><summary>{sheet.title}</summary>{sheet_table(sheet)}</details>"


def _changes(found: Figures) -> str:
    """Changes against the reference, the paper's and ours: what two data sets of unlike levels can be compared by."""
    of = {row.row: (row.mean("ndcg@10"), row.paper.get("ndcg@10")) for row in found.rows}
    ours, theirs = of.get(found.reference, (None, None))
    if not ours or not theirs or not any(own for name, (own, _) in of.items() if name != found.reference):
        return ""

    def change(value: float | None, reference: float, none: str) -> Cell:
        return Cell(none if value is None else f"{value / reference - 1:+.1%}".replace("%", " %"))

    sheet = Sheet(
        f"Change of NDCG@10 against {found.reference}. Two data sets share no level; a direction they may.",
        ["row", "N@10", "paper N@10"],
        [
            [Cell(name), change(own, ours, MISSING), change(papers, theirs, "-")]
            for name, (own, papers) in of.items()
            if name != found.reference
        ],
    )
    return sheet_table(sheet, found=found)


def _buckets(found: Figures) -> str:
    """By popularity, by history, and of new items."""
    sheets = bucket_sheets(found) if found.queries else []
    return f'<div class="pair">{"".join(sheet_table(sheet, shaded=True) for sheet in sheets)}</div>' if sheets else ""


def _facts(found: Figures, origin: Provenance) -> str:
    """What each row sets, of whom was asked, on what, and from which records."""
    rows = []
    for name, changes in origin.changes.items():
        system, words = found.table.rows[name].system, []
        for change in changes:
            instead = "" if change.reference in (None, change.value) else f" ({found.reference}: {change.reference})"
            words.append(f"{change.key} = {change.value}{instead}")
        words += [f"figures of the system {system}"] if system != "dueg" else []
        rows.append([Cell(name), Cell("\n".join(words) or "the params below as they stand")])
    parts = [sheet_table(Sheet("What each row sets", ["row", "params"], rows), prose=True), '<div class="pair">']
    machine = origin.machine and {**origin.machine, "of stages from the cache": "whichever computed them"}
    for about, facts in (("data", origin.data), ("what put the records together", machine)):
        if facts:
            parts.append(f"<div>{charts.table(about, [], {key: [value] for key, value in facts.items()})}</div>")
    parts.append("</div>")
    if origin.kept:
        parts.append(f"<details><summary>{_counted(origin.kept)}</summary>{_runs(origin.kept)}</details>")
    parts += [
        f'<details><summary>params.yaml of {escape(whose)}</summary><pre tabindex="0">{escape(text)}</pre></details>'
        for whose, text in origin.params.items()
    ]
    return "\n".join(parts)


def _runs(kept: Sequence[Kept]) -> str:
    columns = ["row", "seed", "commit", "record", "stages computed", "took", "from cache"]
    rows = [
        [run.row, str(run.seed), run.commit[:DIGITS], run.address, str(run.computed), run.took or "-", str(run.cached)]
        for run in kept
    ]
    cells = [[Cell(text) for text in row] for row in rows]
    return sheet_table(Sheet("Records, in .molar/experiments/records/", columns, cells))
