"""What an ingest did, in numbers: saved as summary.json and printed as tables.

Nothing here repeats a param, so that a param without effect on the data leaves the directory as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.catalog.filtering import Steps
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw, RawItem
from pipeline.progress import console

Summary = dict[str, Any]  # JSON
QUANTILES = (0, 25, 50, 75, 95, 100)


def summarise(
    raw: Raw,
    items: list[RawItem],
    has_image: np.ndarray,
    sequences: Sequences,
    cold: Queries,
    steps: Steps,
    quarantine: Quarantine,
) -> Summary:
    """The counts, as JSON-ready values. `has_image`: bool (N,) by item_idx."""
    length_U = np.diff(sequences.offsets)
    popularity_W = np.bincount(sequences.items, minlength=sequences.num_items)[: sequences.num_warm]
    counts = {
        key: sum(getattr(item, key) is not None for item in items) for key in ("title", "text", "caption", "summary")
    }
    return {
        "rows_read": raw.rows_read,
        "steps": [dict(zip(("step", "interactions", "users", "items"), row, strict=True)) for row in steps.rows],
        "items": {
            "all": len(items),
            "warm": sequences.num_warm,
            "cold": len(items) - sequences.num_warm,
            **{f"with_{key}": count for key, count in counts.items()},
            "with_attributes": sum(bool(item.attributes) for item in items),
            "with_image": int(has_image.sum()),
        },
        "interactions_with_image": round(float(has_image[sequences.items].mean()), 4),
        "split": {
            "users": len(sequences),
            "users_held_out": int((sequences.valid_end < length_U).sum()),
            "training": int(sequences.train_end.sum()),
            "validation": int((sequences.valid_end - sequences.train_end).sum()),
            "test": int((length_U - sequences.valid_end).sum()),
            "cold": len(cold),
            **_without_history(sequences),
        },
        "sequence_length": _spread(length_U),
        "item_popularity": _spread(popularity_W),
        "quarantine": quarantine.reasons(),
    }


def _without_history(sequences: Sequences) -> dict[str, int]:
    """Held-out choices that are their user's first, so that they cannot be asked; only a split by time has them."""
    count = int((sequences.train_end == 0).sum())
    return {"without_history": count} if count else {}


def _spread(values: np.ndarray) -> dict[str, float]:
    quantiles = np.percentile(values, QUANTILES, method="lower")
    return {f"p{q}": int(v) for q, v in zip(QUANTILES, quantiles, strict=True)} | {
        "mean": round(float(values.mean()), 2)
    }


def show(summary: Summary) -> None:
    """Print the summary to standard error."""
    table = Table("step", "interactions", "users", "items", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for step in summary["steps"]:
        counts = (f"{step[key]:,}" if step[key] else "" for key in ("interactions", "users", "items"))
        table.add_row(step["step"], *counts)
    console.print(table)
    if "published" in summary:
        _show_published(summary["published"])
    items, split = summary["items"], summary["split"]
    covered = ", ".join(
        f"{key} {items[f'with_{key}'] / items['all']:.1%}"
        for key in ("title", "text", "caption", "summary", "attributes", "image")
    )
    console.print(f"items: {items['warm']:,} warm, {items['cold']:,} cold; with {covered}", soft_wrap=True)
    console.print(
        f"split: {split['training']:,} training, {split['validation']:,} validation, {split['test']:,} test, "
        f"{split['cold']:,} cold; {summary['interactions_with_image']:.1%} of interactions have a picture",
        soft_wrap=True,
    )
    if "test_from" in split:
        console.print(
            f"split by time: validation from {split['validation_from']}, test from {split['test_from']}; "
            f"held-out choices not asked, as their user's first: {split.get('without_history', 0):,}",
            soft_wrap=True,
        )
    for name in ("sequence_length", "item_popularity"):
        spread = "  ".join(f"{key} {value:,}" for key, value in summary[name].items())
        console.print(f"{name.replace('_', ' ')}: {spread}", soft_wrap=True)
    for source, reasons in summary["quarantine"].items():
        for reason, count in reasons.items():
            console.print(f"quarantined: {count:,} x {reason} ({source})", style="yellow", soft_wrap=True, markup=False)


def _show_published(compared: Summary) -> None:
    """What the publisher counts beside what we do; a wide gap between files is said aloud."""
    ours = "read" if "read" in compared else "after_filters"
    table = Table(compared["data_set"], "interactions", "users", "items", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, key in ((f"published ({compared['source']})", "published"), (ours.replace("_", " "), ours)):
        table.add_row(name, *(f"{compared[key][count]:,}" for count in ("interactions", "users", "items")))
    console.print(table)
    if compared["far"]:
        gaps = (
            f"{compared[ours][key]:,} {key} read, {compared['published'][key]:,} published "
            f"({compared[ours][key] / compared['published'][key] - 1:+.0%})"
            for key in compared["far"]
        )
        console.print(
            f"{compared['data_set']}: {', '.join(gaps)}: this may be a wrong or partial download",
            style="yellow",
            soft_wrap=True,
            markup=False,
        )
