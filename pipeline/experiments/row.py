"""One row and seed: `dvc repro` in a clone, its lines told on the board, its result kept as a record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.experiments import records
from pipeline.experiments.board import Lane
from pipeline.experiments.clone import Clone
from pipeline.experiments.committed import Committed
from pipeline.experiments.points import Point

COMPUTING = re.compile(r"^Running stage '([\w-]+)'")
CACHED = re.compile(r"^Stage '([\w-]+)' (?:is cached|didn't change)")


@dataclass(frozen=True)
class Leg:
    """A part of the way: as far as `stage`, None: to the end."""

    stage: str | None = None
    scratch: Path | None = None  # for its checkpoints; None: the clone's own


def compute(
    point: Point, committed: Committed, clone: Clone, lane: Lane, lock: int, legs: Iterable[Leg] = (Leg(),)
) -> None:
    """Go all `legs`, each asked for when the last is done, and keep the record. Raises MolarError: a stage failed."""
    lane.begin(point)
    log = committed.root / records.FOLDER / "logs" / f"{point.address}.log"
    log.unlink(missing_ok=True)
    for leg in legs:
        with closing(clone.repro(point, log, lock, leg.stage, leg.scratch)) as lines:
            for line in lines:
                if found := COMPUTING.match(line):
                    lane.computing(found[1])
                elif found := CACHED.match(line):
                    lane.cached(found[1])
    records.keep(committed.root, point.address, clone.root, committed.sha, point.raw, lane.end())
    log.unlink()
