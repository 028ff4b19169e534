"""A fine-tuning step shared out among processes: who takes which rows, and as many passes through the model on each.

Promise: gradients are those of one process that takes the whole step, up to rounding, dropout aside. Every process
makes the whole step's plan from (seed, step), prepares its own rows of it (every `of`-th), and weighs them as parts of
the whole; accelerate averages gradients, so each is taken times the number of processes.

Wrappers that hold a part of the weights on each process (FSDP, ZeRO-3) fetch the rest in every pass, module by module:
all processes must then run the same modules the same number of times. So passes that meet a picture and those of words
alone are levelled separately, with repeats that weigh nothing; they are taken pictures first on all processes. DDP
reduces gradients with the last pass of a step alone, which may know nothing of the vision tower (`find_unused`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
P = TypeVar("P", bound=tuple)  # a part: inputs of one forward pass first


@dataclass(frozen=True)
class Share:
    """The rows `rank`, `rank + of`, `rank + 2 of`, ... of a step."""

    rank: int = 0
    of: int = 1

    def rows(self, whole: Sequence[T]) -> Sequence[T]:
        return whole[self.rank :: self.of]

    def gradient(self, whole_TD: Tensor) -> Tensor:
        """(S, D) own rows, times the number of processes whose gradients will be averaged."""
        return whole_TD[self.rank :: self.of] * self.of

    def gathered(self, own_SD: Tensor, length: int, accelerator: Accelerator) -> Tensor:
        """(S, D) of each process -> (length, D), in the step's order, on all of them."""
        if self.of == 1:
            return own_SD
        most = -(-length // self.of)
        padded_MD = F.pad(own_SD, (0, 0, 0, most - len(own_SD)))
        return accelerator.gather(padded_MD).unflatten(0, (self.of, most)).transpose(0, 1).flatten(0, 1)[:length]


def meets_picture(part: tuple) -> bool:
    return "pixel_values" in part[0]


def spares(own: Sequence[P], pictured: P | None, plain: P | None) -> list[P]:
    """Of two parts that other processes may have the like of, those unlike any own one, to be passed for company."""
    sorts = {meets_picture(part) for part in own}
    return [part for part in (pictured, plain) if part is not None and meets_picture(part) not in sorts]


def levelled(groups: Sequence[tuple[list[P], list[P]]], accelerator: Accelerator) -> list[list[tuple[P, bool]]]:
    """Each group's (own parts, spares) as passes, the same number and sort on every process; False: weighs nothing."""
    if accelerator.num_processes == 1:
        return [[(part, True) for part in own] for own, _ in groups]
    counts = [sum(meets_picture(part) == sort for part in own) for own, _ in groups for sort in (True, False)]
    counts_1G = torch.tensor([counts], device=accelerator.device)
    most = iter(accelerator.gather(counts_1G).amax(0).tolist())
    passes = []
    for own, spare in groups:
        of_group: list[tuple[P, bool]] = []
        for sort in (True, False):
            real = [part for part in own if meets_picture(part) == sort]
            missing = next(most) - len(real)
            company = (real or [part for part in spare if meets_picture(part) == sort])[-1:]  # the shortest
            of_group += [(part, True) for part in real] + [(part, False) for part in company * missing]
        passes.append(of_group)
    return passes


def mark(model: nn.Module, accelerator: Accelerator, *, last: bool) -> None:
    """Before each pass with a graph: only with the last of a step do DDP reduce and DeepSpeed take the step.

    FSDP reduces with every pass: whole gradients kept until the last would take the memory that it saves.
    """
    accelerator.gradient_state._set_sync_gradients(last)
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = last
