"""A table's figures as words: one sheet of cells with its notes, which every format writes in its own way."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from pipeline.experiments.figures import COLD, Figures, RowFigures, names_of_buckets
from pipeline.retrieval.metrics import short

MISSING = "missing"


@dataclass(frozen=True)
class Cell:
    text: str
    place: int = 0  # 1: the best of its column, 2: the second best
    value: float | None = None  # the figure itself, for a format that shades it


@dataclass(frozen=True)
class Sheet:
    """Rows of cells under column names; the first column names the row, the others are figures."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


def main_sheet(found: Figures, narrow: bool) -> Sheet:
    """The comparison. `narrow` is for eighty columns: without the mean difference, which two means tell."""
    places = {metric: _places(found.rows, metric) for metric in ("ndcg@10", "recall@10")}
    paper = any(row.paper for row in found.rows)
    versus = f"vs {found.reference}" if len(found.reference) <= 9 else "vs ref."
    deviation = " ± SD" if any(len(row.seeds) > 1 for row in found.rows) else ""
    columns = [
        "row",
        *(f"{metric}@10{deviation}" for metric in ("N", "R")),
        *([] if narrow else [f"N@10 {versus}"]),
        f"{versus}, 95 %",
        "p",
        *(["paper N@10", "paper R@10"] if paper else []),
    ]
    rows = []
    for row in found.rows:
        cells = [Cell(row.row)]
        for metric in ("ndcg@10", "recall@10"):
            cells.append(Cell(_with_deviation(row, metric), places[metric].get(row.row, 0)))
        if row.difference:
            cells += [] if narrow else [Cell(signed(row.difference.mean))]
            cells.append(Cell(f"{signed(row.difference.low)}…{signed(row.difference.high)}"))
            cells.append(Cell(probability(row.p_holm)))
        else:
            cells += [Cell("")] * (2 if narrow else 3)
        if paper:
            cells += [Cell(short(row.paper.get(metric))) for metric in ("ndcg@10", "recall@10")]
        rows.append(cells)
    return Sheet(found.table.title, columns, rows)


def bucket_sheets(found: Figures) -> list[Sheet]:
    """NDCG@10 by who is asked: a sheet for each kind of bucket, with the number of queries; one of new items.

    Rows that have not been run stand in the comparison alone.
    """
    sheets = []
    computed = [row for row in found.rows if row.seeds]
    for kind, sizes in found.bucket_sizes.items():
        shown = [index for index, size in enumerate(sizes) if size]
        names = names_of_buckets(kind)
        columns = ["row", *(f"{names[index]} ({sizes[index]:,})" for index in shown)]
        rows = [[Cell(row.row), *(_figure(row.buckets[kind][index]) for index in shown)] for row in computed]
        sheets.append(Sheet(f"NDCG@10 by {kind} (queries)", columns, rows))
    if parts := [part for part in COLD if any(part in row.cold for row in computed)]:
        rows = [
            [Cell(row.row), *(_figure(mean(row.cold[part]) if part in row.cold else None) for part in parts)]
            for row in computed
        ]
        sheets.append(Sheet("NDCG@10 of new items, never trained on", ["row", *map(COLD.__getitem__, parts)], rows))
    return sheets


def _figure(value: float | None) -> Cell:
    return Cell(short(value), value=value)


def notes(found: Figures) -> list[str]:
    """What the reader must know before a figure of the table is quoted, a sentence or two each."""
    return [*measured(found), *setting(found), *remarks(found), *lacking(found)]


def measured(found: Figures) -> list[str]:
    """What our figures are of, and how they were tested."""
    seeds, said = _seeds(found), []
    if seeds:
        masking = "seen items masked" if found.masked else "seen items ranked too"
        users = "" if found.users == found.queries else f" of {found.users:,} users"
        said.append(
            f"Ours: {found.data}, {found.queries:,} test queries{users}, {masking}; {_over(seeds)}. "
            "Best and second best are marked."
        )
    if tested := sum(row.difference is not None for row in found.rows):
        said.append(
            f"95 %: bootstrap interval over users of the difference in NDCG@10 from {found.reference}. p: sign flips "
            f"over users, corrected for {tested} comparison{'s' * (tested > 1)} (Holm)."
        )
        if found.luck:
            moved = short(found.luck.deviation)
            said[-1] += f" Both count the luck of seeds: one moves a row by {moved}, beside what users' chance does."
        elif len(seeds) > 1:
            said[-1] += " Neither counts the luck of seeds, which two rows with two seeds in common would tell."
    elif found.rows and not any(row.seeds for row in found.rows if row.row == found.reference):
        said.append(f"No tests: {found.reference}, the row to test against, is missing.")
    return said


def setting(found: Figures) -> list[str]:
    """Whose the paper's figures are, and how our data differs from theirs."""
    of_data, source = found.table.data[found.data], found.table.source
    if any(row.paper for row in found.rows):
        differs = f" Ours differs: {of_data.differs}." if of_data.differs else ""
        beside = found.table.paper_data(found.data)
        return [f"paper: figures of {source or 'the paper'}, on {beside}, not ours and not checked.{differs}"]
    return [f"The data: {of_data.differs}."] if of_data.differs else []


def remarks(found: Figures) -> list[str]:
    """What the file says beside its rows."""
    said = [found.table.note.strip()] if found.table.note else []
    return said + [f"{name}: {row.note}." for name, row in found.table.rows.items() if row.note]


def lacking(found: Figures) -> list[str]:
    """What of the table has not been computed, or cannot stand in it."""
    seeds, said = _seeds(found), []
    if found.odd:
        said.append(f"Left out, for their records have other test queries or another mask: {', '.join(found.odd)}.")
    partly = [f"{row.row} has {len(row.seeds)}" for row in found.rows if 0 < len(row.seeds) < len(seeds)]
    missing = [row.row for row in found.rows if not row.seeds]
    if partly:
        said.append(f"Not whole, of {len(seeds)} seeds: {', '.join(partly)}.")
    if missing:
        said.append(f"Missing: {', '.join(missing)}; `molar experiment run {found.name} --data {found.data}`.")
    return said


def _seeds(found: Figures) -> list[int]:
    return sorted({seed for row in found.rows for seed in row.seeds})


def _over(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]} alone, so that a difference may be the seed's as well as the row's"
    return f"mean and standard deviation (SD) over seeds {', '.join(map(str, seeds))}"


def wrapped(lines: Sequence[str], width: int = 79) -> str:
    return "\n".join(textwrap.fill(line, width, initial_indent=" ", subsequent_indent="   ") for line in lines)


def signed(figure: float) -> str:
    """With its sign; what prints as zero is not negative."""
    return ("+" if round(figure, 4) >= 0 else "-") + short(abs(figure))


def _with_deviation(row: RowFigures, metric: str) -> str:
    if not row.seeds:
        return MISSING
    deviation = row.deviation(metric)
    return short(row.mean(metric)) + (f" ±{short(deviation)}" if deviation is not None else "")


def _places(rows: Sequence[RowFigures], metric: str) -> dict[str, int]:
    """Row -> 1 or 2; equal figures, as they are printed, share a place."""
    means = {row.row: round(mean, 4) for row in rows if (mean := row.mean(metric)) is not None}
    if len(means) < 2:
        return {}
    order = sorted(set(means.values()), reverse=True)
    return {row: order.index(mean) + 1 for row, mean in means.items() if mean in order[:2]}


def probability(value: float | None) -> str:
    """A p value as every table writes it."""
    if value is None:
        return ""
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
