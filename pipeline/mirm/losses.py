"""What fine-tuning tells of itself: the loss of every step, and of what was held out, as tables in data/mirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipeline.mirm.tasks import Kind

SMOOTHING = 50  # steps of a kind that a reported loss averages over


@dataclass(frozen=True)
class Loss:
    step: int  # 1, 2, ...
    kind: Kind
    value: float


@dataclass(frozen=True)
class HeldOut:
    """Mean loss of what fine-tuning never met (held_out.py), before and after."""

    kind: Kind
    loss: str  # answer | contrast
    examples: int
    before: float
    after: float


def recent(losses: list[Loss]) -> str:
    """Each kind's mean loss over its last steps: "image_text 1.08, attributes 0.48"."""
    values: dict[str, list[float]] = {}
    for loss in losses[-4 * SMOOTHING :]:
        values.setdefault(loss.kind, []).append(loss.value)
    return ", ".join(f"{kind} {fmean(of_kind[-SMOOTHING:]):.2f}" for kind, of_kind in sorted(values.items()))


def write_losses(path: Path, losses: list[Loss]) -> None:
    """Columns step, kind, loss, tab-separated; floats so that they read back exactly."""
    rows = "".join(f"{loss.step}\t{loss.kind}\t{loss.value!r}\n" for loss in losses)
    path.write_text(f"step\tkind\tloss\n{rows}", "utf-8")


def read_losses(path: Path) -> list[Loss]:
    """What `write_losses` wrote."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    return [Loss(int(step), kind, float(value)) for step, kind, value in rows]  # type: ignore[arg-type]


def write_held_out(path: Path, held_out: Sequence[HeldOut]) -> None:
    """Columns kind, loss, examples, before, after, tab-separated."""
    rows = "".join(f"{row.kind}\t{row.loss}\t{row.examples}\t{row.before:.6f}\t{row.after:.6f}\n" for row in held_out)
    path.write_text(f"kind\tloss\texamples\tbefore\tafter\n{rows}", "utf-8")
