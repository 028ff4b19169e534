"""What data/catalog holds, in numbers, read from its manifest, its summary and a sample of its words.

Nothing is verified by digest here: a look must not read gigabytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.mirm.prompt import SEPARATOR

SAMPLED_ITEMS = 1000  # the first ones
CHARACTERS_PER_TOKEN = 4.0  # of byte-level BPE on English; 4.9 on the demo world, whose tokenizer knows its words


@dataclass(frozen=True)
class Counts:
    """Of a catalogue."""

    items: int
    warm: int  # items in the softmax
    pictured: float  # share of items with a picture
    users: int
    interactions: int
    training: int  # interactions, of all
    word_tokens: np.ndarray  # about how many tokens the words of each sampled item are, uncut
    bytes: int  # on disk


def read_counts(directory: Path) -> Counts | None:
    """Counts of the catalogue in `directory`; None before there is one. Raises as `probe.FAILURES` says."""
    try:
        artifact = artifacts.read(directory, "ingest")
    except MolarError:
        return None
    summary = json.loads((directory / "summary.json").read_text("utf-8"))
    return Counts(
        items=summary["items"]["all"],
        warm=summary["items"]["warm"],
        pictured=summary["items"]["with_image"] / max(summary["items"]["all"], 1),
        users=artifact.facts["users"],
        interactions=artifact.facts["interactions"],
        training=summary["split"]["training"],
        word_tokens=_word_tokens(directory / next(name for name in artifact.names if name.startswith("items/"))),
        bytes=sum(entry["size"] for entry in artifact.facts["files"].values()),
    )


def _word_tokens(part: Path) -> np.ndarray:
    """Of title, attributes and text as a prompt joins them (pipeline/mirm/prompt.py); float (S,)."""
    columns = ["title", "text", "attributes"]
    batch = next(pq.ParquetFile(part).iter_batches(SAMPLED_ITEMS, columns=columns, use_threads=False))
    lengths = []
    for row in batch.to_pylist():
        attributes = [f"{pair['key']} {pair['value']}" for pair in row["attributes"] or () if pair["value"]]
        lengths.append(len(SEPARATOR.join(p for p in (row["title"], *attributes, row["text"]) if p)))
    return np.array(lengths) / CHARACTERS_PER_TOKEN
