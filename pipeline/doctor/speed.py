"""What this machine does a second, measured in a fraction of one on a transformer layer like the stage's own.

    time = FLOPs / (UTILISATION x rate) + pictures x PICTURE_SECONDS          FLOPs and pictures: work.py

The rate is that of one layer (recommender/sasrec.py's) of the model's width, forward and backward, in the precision of
the stage. A bare matmul would promise too much: at the demo's width of 96 it runs three times as fast. On a CPU the
better of two rates counts: one thread by its own processor time, which other jobs do not disturb, and all threads by
the clock. So a machine that stays busy takes longer than this says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from pipeline.doctor.work import Layer, Work
from pipeline.mirm.backbone import DTYPES
from pipeline.recommender.sasrec import Block

UTILISATION = 0.6  # of that layer's rate that a whole training reaches; docs/doctor.md compares with real runs
PICTURE_SECONDS = 4e-3  # decoding and the backbone's processor, one core: 3 to 6 ms measured at 56 x 56 pixels
MEASURED_SECONDS, PATIENCE = 0.15, 0.6  # the latter where a pass is so slow that the second is still to come
LENGTH = 16  # tokens a row
PARAMETERS = 12  # of a layer, in squares of its width
# Larger layers are no faster per operation, and a type that the processor only emulates must not take minutes.
MAX_ROWS, MAX_WIDTH = {"cpu": 1024, "cuda": 16384}, {"cpu": 256, "cuda": 4096}


def bounded(layer: Layer, device: torch.device) -> Layer:
    """`layer` with its sizes bounded and the rows a power of two, so that like layers are measured once."""
    rows = 1 << round(math.log2(max(LENGTH, min(layer.rows, MAX_ROWS[device.type]))))
    return replace(layer, rows=rows, width=max(8, min(layer.width, MAX_WIDTH[device.type])))


def measure(device: torch.device, layer: Layer) -> float:
    """FLOPs a second of training one such layer on `device`."""
    width, batch = layer.width // 2 * 2, layer.rows // LENGTH
    block = Block(width, 2, 0.0, "pre").to(device, DTYPES[layer.precision])
    inputs_BLD = torch.randn(batch, LENGTH, width, device=device, dtype=DTYPES[layer.precision])
    best, threads = _best(block, inputs_BLD, time.perf_counter), torch.get_num_threads()
    if device.type == "cpu":
        try:
            torch.set_num_threads(1)
            best = min(best, _best(block, inputs_BLD, time.thread_time))
        finally:
            torch.set_num_threads(threads)
    return 6 * PARAMETERS * width**2 * batch * LENGTH / best


def _best(block: Block, inputs_BLD: torch.Tensor, clock: Callable[[], float]) -> float:
    """Seconds of one forward and backward pass, the best of those that fit into MEASURED_SECONDS."""
    best, passes, begun = float("inf"), 0, time.perf_counter()
    while time.perf_counter() - begun < (PATIENCE if passes < 2 else MEASURED_SECONDS):
        start = clock()
        block(inputs_BLD).square().mean().backward()
        if inputs_BLD.is_cuda:
            torch.cuda.synchronize(inputs_BLD.device)
        best, passes = min(best, clock() - start), passes + 1
    return best


def seconds(work: Work, rate: float) -> float:
    """The estimate, by the formula above."""
    return work.flops / (UTILISATION * rate) + work.pictures * PICTURE_SECONDS
