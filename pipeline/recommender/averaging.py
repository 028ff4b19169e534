"""An exponential moving average of the trained weights: what is validated, kept and served.

With a constant learning rate the last weights jitter around where they tend to. Their average does not: on ml-100k it
gained .003 validation NDCG@10 and made the curve smooth enough for early stopping to mean something. The memory is
told in epochs, so that one figure suits a data set of fifty steps an epoch and one of fifty thousand:

    average <- d average + (1 - d) weights after every step,   d = exp(-1 / (epochs x steps per epoch))

with a shorter memory in the first steps, which start from random weights. `epochs` = 0 is no averaging, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Of the parameters of `modules` that are trained; everything else is shared."""

    def __init__(self, modules: nn.Module, epochs: float, steps_per_epoch: int) -> None:
        self._weights = {name: p for name, p in modules.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self._weights.items()}
        self._decay = math.exp(-1 / (epochs * steps_per_epoch)) if epochs else 0.0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after the given step (1, 2, ...)."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(list(self.values.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the modules hold the average; nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self, values: dict[str, Tensor]) -> None:
        """Go on from the `values` of a checkpoint."""
        for name, value in values.items():
            self.values[name].copy_(value)

    def _swap(self) -> None:
        for name, parameter in self._weights.items():
            parameter.data, self.values[name] = self.values[name], parameter.data
