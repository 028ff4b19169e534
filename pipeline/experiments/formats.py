"""A table for the terminal (eighty columns), for a page in Markdown, for a paper in LaTeX, for a program in CSV."""

from __future__ import annotations

import csv
import re
from io import StringIO
from statistics import mean
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pipeline.experiments.figures import BUCKETS, COLD, Figures, RowFigures, names_of_buckets
from pipeline.experiments.sheet import Cell, Sheet, bucket_sheets, main_sheet, notes, wrapped
from pipeline.experiments.table import METRICS

Format = Literal["terminal", "markdown", "latex", "csv"]
PLACES = 6  # decimals in CSV
WIDEST = 200  # a table takes what it needs; nothing of it is cut off
STYLES = {0: "", 1: "bold", 2: "underline"}
MARKS = {0: " ", 1: "¹", 2: "²"}  # where there is no bold type
MINUS = re.compile(r"(?<![^\s…])-(?=[.\d])")  # before a figure; any other is a hyphen
LATEX = {letter: f"\\{letter}" for letter in "&%_#${}"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}",
    "<": "$<$", ">": "$>$",  # as text the usual fonts print ¡ and ¿
    "−": "$-$", "±": r"$\pm$", "…": " to ",
    "[": "{[}", "*": "{*}",  # which the \\ of the row before would take for its own
}  # fmt: skip


def written(found: Figures, format: Format, buckets: bool) -> str:
    """The whole answer in that format; every one but CSV says what its figures are."""
    if format == "csv":
        return _csv(found, buckets)
    sheets = [main_sheet(found, narrow=format == "terminal"), *(bucket_sheets(found) if buckets else [])]
    if format == "markdown":
        return "\n\n".join([*map(_markdown, sheets), *notes(found)]) + "\n"
    if format == "latex":
        said = [f"% {line}" for note in notes(found) for line in note.splitlines()]
        return "\n".join(["% needs \\usepackage{booktabs}", *said, *map(_latex, sheets)]) + "\n"
    return "\n".join([*map(_terminal, sheets), wrapped(notes(found))]) + "\n"


def _terminal(sheet: Sheet) -> str:
    shown = RichTable(box=SIMPLE_HEAD, padding=0)
    for index, column in enumerate(sheet.columns):
        head = column.replace(" N@10", "\nN@10").replace(" R@10", "\nR@10").replace(", 95 %", "\n95 %")
        shown.add_column(Text(head), justify="right" if index else "left", no_wrap=True)
    marked = [any(row[index].place for row in sheet.rows) for index in range(len(sheet.columns))]
    for row in sheet.rows:
        shown.add_row(
            *(
                Text(cell.text, STYLES[cell.place]) + Text(MARKS[cell.place] if has else "")
                for cell, has in zip(row, marked, strict=True)
            )
        )
    console = Console(highlight=False, width=WIDEST)
    with console.capture() as captured:
        console.print(shown)
    return f" {sheet.title}\n" + "\n".join(line.rstrip() for line in captured.get().splitlines()[1:])


def _markdown(sheet: Sheet) -> str:
    def escaped(text: str) -> str:
        return text.replace("|", "\\|")

    def cell(cell: Cell) -> str:
        text = escaped(cell.text)
        return {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[cell.place]

    head = [f"| {' | '.join(map(escaped, sheet.columns))} |", f"|---|{'---:|' * (len(sheet.columns) - 1)}"]
    lines = [f"| {' | '.join(map(cell, row))} |" for row in sheet.rows]
    return "\n".join([f"**{sheet.title}**", "", *head, *lines])


def _latex(sheet: Sheet) -> str:
    def escaped(text: str) -> str:
        return "".join(LATEX.get(letter, letter) for letter in MINUS.sub("−", text))

    def cell(cell: Cell) -> str:
        text = escaped(cell.text)
        return {0: text, 1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}[cell.place]

    lines = [" & ".join(map(cell, row)) + r" \\" for row in sheet.rows]
    return "\n".join(
        [
            f"% {sheet.title}",
            f"\\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}",
            r"\toprule",
            " & ".join(map(escaped, sheet.columns)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _csv(found: Figures, buckets: bool) -> str:
    stream = StringIO()
    rows = [_record(row, found, buckets) for row in found.rows]
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _record(row: RowFigures, found: Figures, buckets: bool) -> dict[str, str | int]:
    """A row for a program: every metric, empty where there is no figure."""

    def number(value: float | None) -> str:
        return "" if value is None or value != value else f"{value:.{PLACES}f}"

    of = row.difference
    record: dict[str, str | int] = {"data": found.data, "row": row.row, "seeds": len(row.seeds)}
    for metric in METRICS:
        record |= {metric: number(row.mean(metric)), f"{metric} sd": number(row.deviation(metric))}
    record |= {
        "against": found.reference if of else "",
        "difference ndcg@10": number(of.mean if of else None),
        "low": number(of.low if of else None),
        "high": number(of.high if of else None),
        "p": number(row.p),
        "p holm": number(row.p_holm),
    }
    record |= {f"paper {metric}": number(row.paper.get(metric)) for metric in METRICS[:2]}
    for kind in BUCKETS if buckets else ():
        for index, name in enumerate(names_of_buckets(kind)):
            record[f"ndcg@10, {name} {kind}"] = number(row.buckets[kind][index] if row.buckets else None)
    for part, where in COLD.items() if buckets else ():
        record[f"ndcg@10, new items {where}"] = number(mean(row.cold[part]) if part in row.cold else None)
    return record
