"""Is an epoch of our SASRec slower than one of pmixer/SASRec.pytorch? And how near is a step to plain matrix products?

    git clone https://github.com/pmixer/SASRec.pytorch /elsewhere/pmixer
    MOLAR_REAL_DATA=... python -m benchmarks.epoch ml-100k ml-1m --pmixer /elsewhere/pmixer     a quarter of an hour
    ... --items 1682 --items 3522                              without 100,000 items: five minutes of one thread
    python -m benchmarks.epoch --items 1682 --steps 3 --rounds 1          seconds, ours alone: does it run here?

Both take 128 windows of 50 a step: 64 wide, two post-norm blocks, two heads, dropout .2, learning rate 1e-3. Ours is
`fit` itself, with all that it does beside: clipping, averaging of weights. They differ in what a step computes: ours a
softmax over all items and an inner width of 256, theirs one negative and an inner width of 64. And in what an epoch
is: theirs the last 50 training items of each user, all padded to 50; ours every training item as a target once, windows
of like length together. So they meet twice: over random items in windows that are all full, where a step of either
has the same 6,400 targets, and on real data.

Seconds are the processor's, of one thread. "Sampling" is in no other column: theirs is that of three sampler processes,
ours `epoch_batches`. Reading the data, validation and checkpoints are nowhere. The loops take turns, and each shows its
median round. Of theirs python/model.py was read at 3e5bb0f, utils.py at 7a143d2 and main.py at f701731; what later
versions of them change (22c909f, 02dc74f, 227531f) is not what a step computes.

How FLOPs are counted, and what plain products are: benchmarks/plain_products.py.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.peer import HISTORY
from benchmarks.plain_products import HEAD, reached
from benchmarks.strength import SASREC, configured
from benchmarks.teacher import preset_params, real_sequences, trained
from pipeline.catalog.catalogue import Sequences
from pipeline.live import Live
from pipeline.params import Params
from pipeline.recommender.batches import epoch_batches, targets_in
from pipeline.recommender.sasrec import SASRec

BATCH, DROPOUT = 128, 0.2
OURS = SASREC | {"sasrec.dropout": DROPOUT, "training.batch_size": BATCH, "training.batch_of": "windows"}
PMIXER = {
    "device": "cpu",
    "batch_size": BATCH,
    "maxlen": HISTORY,
    "hidden_units": SASREC["sasrec.dim"],
    "num_blocks": SASREC["sasrec.layers"],
    "num_heads": SASREC["sasrec.heads"],
    "dropout_rate": DROPOUT,
    "norm_first": False,
    "lr": SASREC["training.learning_rate"],
    "l2_emb": 0.0,
}
WARM = 3  # steps that are not measured
FEWEST = 3  # measured steps of ours over a large catalogue, which are long
HEAD_OF_STEPS = (
    "| data | loop | windows | padded to | targets | ms a step | sampling, ms | us a window | us a target | epoch |"
    "\n|---|---|---|---|---|---|---|---|---|---|"
)
ITEMS = (1682, 3522, 100_000)  # of ml-100k, of ml-1m, of a shop


@dataclass(frozen=True)
class Measured:
    """Means of a loop's steps; seconds are the processor's."""

    epoch: int  # steps of one
    windows: float
    padded: float  # to this length
    targets: float
    seconds: float
    sampling: float  # seconds besides


class Enough(Exception):
    """Steps have been measured."""


class Clock(Live):
    """In place of live curves: the seconds of `count` steps of `fit`, which it then ends.

    The first step of an epoch is never measured, for its beginning is not seen.
    """

    def __init__(self, count: int) -> None:
        self.count, self.seconds, self._since = count, dict[int, float](), 0.0  # steps are counted from 0

    def begin(self, done: int, total: int) -> None: ...

    def add(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        now = time.process_time()
        if self._since and step > WARM:
            self.seconds[step - 1] = now - self._since
        self._since = now
        if len(self.seconds) == self.count:
            raise Enough

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._since = 0.0  # validation has passed


def full_windows(items: int, windows: int) -> Sequences:
    """Users whose training items, drawn at random, fill one window each; one more is for validation."""
    each = HISTORY + 2
    return Sequences(
        user_ids=[str(user) for user in range(windows)],
        items=np.random.default_rng(0).integers(0, items, windows * each, np.int32),
        timestamps=np.tile(np.arange(each), windows),
        offsets=np.arange(windows + 1) * each,
        train_end=np.full(windows, each - 1, np.int32),
        valid_end=np.full(windows, each, np.int32),
        num_items=items,
        num_warm=items,
    )


def of_size(preset: Params) -> Params:
    """The preset's, with a teacher like theirs that is never done."""
    protocol = preset.protocol.model_copy(update={"max_history": HISTORY})
    return configured(preset.model_copy(update={"protocol": protocol}), "sasrec", OURS, 10**6, 10**6)


def ours(preset: Params, sequences: Sequences, steps: int) -> Measured:
    """So many steps of `fit`."""
    clock = Clock(steps)
    with tempfile.TemporaryDirectory() as scratch, suppress(Enough):
        trained(of_size(preset), sequences, 0, Path(scratch), clock)
    batches = partial(epoch_batches, sequences, HISTORY, BATCH, "windows", 0)  # those that `fit` took
    start = time.process_time()
    epoch = len(batches(0))
    sampling = (time.process_time() - start) / epoch
    taken = [rows for number in range(max(clock.seconds) // epoch + 1) for rows in batches(number)]
    lengths = [targets_in(taken[step]) for step in clock.seconds]  # no window reads anything again
    windows, padded, targets = np.mean([(len(of), of.max(), of.sum()) for of in lengths], axis=0).tolist()
    return Measured(epoch, windows, padded, targets, statistics.fmean(clock.seconds.values()), sampling)


def pmixers(clone: Path, sequences: Sequences, steps: int) -> Measured:
    """So many steps of theirs, in a process of its own."""
    settings = {**PMIXER, "items": sequences.num_items, "warm": WARM, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        histories = Path(folder) / "histories.json"
        histories.write_text(json.dumps([sequences.training(user).tolist() for user in range(len(sequences))]))
        program = Path(__file__).with_name("pmixer_sasrec.py")
        command = [sys.executable, str(program), str(clone), str(histories), json.dumps(settings)]
        run = subprocess.run(command, check=False, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"pmixer's loop failed; is {clone} a clone of it?\n{run.stderr[-3000:]}")
    return Measured(math.ceil(len(sequences) / BATCH), BATCH, HISTORY, **json.loads(run.stdout))


def main(
    data: Annotated[list[str] | None, typer.Argument(help="Presets, read from $MOLAR_REAL_DATA.")] = None,
    pmixer: Annotated[Path | None, typer.Option(help="A clone of theirs; without it ours is alone.")] = None,
    items: Annotated[list[int] | None, typer.Option(help="Sizes of a catalogue for full windows.")] = None,
    steps: Annotated[int, typer.Option(help="Measured in a round; of ours fewer where items are many.")] = 40,
    rounds: int = 3,
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    sizes = {f"{size:,} items, full windows": size for size in items or ITEMS}
    print(f"{BATCH} windows of at most {HISTORY} a step, one thread; the median of {rounds} rounds of {steps} steps\n")
    print(HEAD_OF_STEPS)
    verdicts, seconds = [], {}
    for name in [*sizes, *(data or [])]:
        size = sizes.get(name)
        preset = preset_params("ml-100k" if size else name)
        sequences = full_windows(size, BATCH * (WARM + steps + 1)) if size else real_sequences(name, preset)
        fewer = max(FEWEST, min(steps, steps * ITEMS[0] // size)) if size else steps
        of_theirs, of_ours = [], []
        for _ in range(rounds):
            of_theirs += [pmixers(pmixer, sequences, steps)] if pmixer else []
            of_ours.append(ours(preset, sequences, fewer))
        both = {loop: median(of) for loop, of in (("pmixer", of_theirs), ("ours", of_ours)) if of}
        for loop, of in both.items():
            print(row(name, loop, of, epoch=not size), flush=True)
        if pmixer:
            verdicts.append(verdict(name, both["pmixer"], both["ours"]))
        if size:
            seconds[size] = both["ours"].seconds
    print("", *verdicts, "", sep="\n")
    print(HEAD)
    teacher = of_size(preset_params("ml-100k")).train_teacher.sasrec
    model = SASRec(**teacher.model_dump(), max_history=HISTORY)
    for size, of_step in seconds.items():
        print(reached(model, BATCH, HISTORY, size, of_step), flush=True)


def median(rounds: list[Measured]) -> Measured:
    """The round of the median step."""
    return sorted(rounds, key=lambda of: of.seconds)[len(rounds) // 2]


def row(name: str, loop: str, of: Measured, epoch: bool) -> str:
    """Of the first table; `epoch`: are the data more than windows to measure on?"""
    milliseconds = f"{of.seconds * 1e3:,.0f} | {of.sampling * 1e3:,.1f}"
    each = " | ".join(f"{of.seconds / count * 1e6:,.1f}" for count in (of.windows, of.targets))
    of_epoch = f"{of.epoch} steps, {of.epoch * of.seconds:.1f} s" if epoch else "-"
    sizes = f"{of.windows:.0f} | {of.padded:.1f} | {of.targets:,.0f}"
    return f"| {name} | {loop} | {sizes} | {milliseconds} | {each} | {of_epoch} |"


def verdict(name: str, they: Measured, we: Measured) -> str:
    """Their seconds over ours."""
    step = they.seconds / we.seconds
    sampled = (they.seconds + they.sampling) / (we.seconds + we.sampling)
    a_target = we.targets / they.targets
    return (
        f"- {name}: pmixer's seconds over ours are {step:.2f} a step and {step * a_target:.2f} a target, "
        f"with sampling {sampled:.2f} and {sampled * a_target:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
