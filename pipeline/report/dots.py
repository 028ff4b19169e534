"""Rows of an experiment table as dots with their intervals, for the page (table_page) and for a picture (plot).

Every figure is one that `pipeline.experiments` computes for `molar experiment show`, in the same words.
"""

from __future__ import annotations

from pipeline.experiments.figures import Figures, RowFigures
from pipeline.experiments.sheet import MISSING, probability, signed
from pipeline.report.intervals import Dot
from pipeline.retrieval.metrics import short

SURE = 0.05  # a difference whose corrected p is below has a filled dot


def means(found: Figures) -> list[Dot]:
    """NDCG@10 of every row, 1.96 standard errors over users either way; the reference is the strong one."""
    return [_mean(row, found.reference) for row in found.rows]


def differences(found: Figures) -> list[Dot]:
    """NDCG@10 of every other row less that of the reference, with its bootstrap interval."""
    return [_difference(row, found) for row in found.rows if row.row != found.reference]


def sure() -> str:
    """SURE as words have it."""
    return short(SURE).rstrip("0")


def reference(found: Figures) -> float | None:
    """NDCG@10 of the row that the others are tested against, if it is there."""
    return next((row.mean("ndcg@10") for row in found.rows if row.row == found.reference), None)


def _mean(row: RowFigures, reference: str) -> Dot:
    value = row.mean("ndcg@10")
    if value is None or row.error is None:
        return Dot(row.row, MISSING)
    low, high = value - 1.96 * row.error, value + 1.96 * row.error
    seeds = dict(zip(row.seeds, row.values["ndcg@10"], strict=True))
    ends = f"{short(low)} – {short(high)}"
    return Dot(row.row, short(value), [ends], value, low, high, seeds, f"{short(value)}, {ends}", row.row == reference)


def _difference(row: RowFigures, found: Figures) -> Dot:
    of = row.difference
    if of is None or row.p_holm is None:
        return Dot(row.row, MISSING if not row.seeds else "no test")
    theirs = next(each for each in found.rows if each.row == found.reference)
    ours, beside = (dict(zip(each.seeds, each.values["ndcg@10"], strict=True)) for each in (row, theirs))
    ends, p = f"{signed(of.low)}…{signed(of.high)}", f"p {probability(row.p_holm)}"
    return Dot(
        row.row,
        signed(of.mean),
        [ends, p],
        of.mean,
        of.low,
        of.high,
        {seed: ours[seed] - beside[seed] for seed in row.seeds if seed in beside},
        f"{signed(of.mean)}, {ends}, {p}",
        filled=row.p_holm < SURE,
    )
