"""What fine-tuning has learnt beyond its own examples: the losses of examples that were kept apart, by kind.

A kind is asked as it is trained, by its answers, by contrast or by both. Answers count by their tokens. Contrast
depends on how many pairs there are to confuse, so it is asked in batches of a step's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.mirm.batch import IGNORED, Example
from pipeline.mirm.folder import Mirm
from pipeline.mirm.objectives import Losses, Steps
from pipeline.mirm.pairs import Pair
from pipeline.mirm.tasks import Kind
from pipeline.params.finetune_mirm import FinetuneMirm


@dataclass(frozen=True)
class Asked:
    """One loss of one kind."""

    kind: Kind
    loss: Literal["answer", "contrast"]
    examples: int
    value: float


@torch.no_grad()  # and not inference_mode: weights that are moved to a GPU inside it could never be trained again
def held_out_losses(mirm: Mirm, steps: Steps, params: FinetuneMirm, device: torch.device) -> list[Asked]:
    """Mean loss of an answer token and of a pair, in the order of kinds; none where nothing is kept apart."""
    asking = _Asking(Losses(mirm.model.to(device).eval()), steps, params, device)
    found: list[Asked] = []
    for kind, (examples, pairs) in steps.tasks.held_out().items():
        if examples:
            found.append(Asked(kind, "answer", len(examples), asking.answers(examples)))
        if len(pairs) > 1:  # one alone is confused with nothing
            found.append(Asked(kind, "contrast", len(pairs), asking.contrast(pairs)))
    return found


class _Asking:
    def __init__(self, model: Losses, steps: Steps, params: FinetuneMirm, device: torch.device) -> None:
        self._model, self._steps, self._device = model, steps, device
        self._size, self._temperature = params.batch_size, params.objectives.temperature
        self._bfloat16 = params.precision == "bfloat16"

    def answers(self, examples: list[Example]) -> float:
        total, tokens = 0.0, 0
        for start in range(0, len(examples), self._size):
            for inputs, labels_BL in self._steps.parts(examples[start : start + self._size]):
                count = int((labels_BL != IGNORED).sum())
                loss = self._forward(inputs, labels_BL.to(self._device))
                total, tokens = total + loss.item() * count, tokens + count
        return total / tokens

    def contrast(self, pairs: list[Pair]) -> float:
        return fmean(self._of_batch(batch).item() for batch in _full_batches(pairs, self._size))

    def _of_batch(self, pairs: list[Pair]) -> Tensor:
        sides = [self._embedded([Example(getattr(pair, side)) for pair in pairs]) for side in ("one", "other")]
        keys_T = torch.tensor([pair.key for pair in pairs], dtype=torch.int64, device=self._device)
        return symmetric_info_nce(sides[0], sides[1], same_but_itself(keys_T), self._temperature)

    def _embedded(self, examples: list[Example]) -> Tensor:
        views = self._steps.views(examples)
        places_T = torch.cat([places_B for _, _, places_B in views])
        rows = [self._forward(inputs, None, last_B.to(self._device)) for inputs, last_B, _ in views]
        return torch.cat(rows)[places_T.argsort()]

    def _forward(self, inputs: dict[str, Tensor], *rest: Tensor | None) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            return self._model({name: tensor.to(self._device) for name, tensor in inputs.items()}, *rest)


def _full_batches(pairs: list[Pair], size: int) -> Iterator[list[Pair]]:
    """Batches of `size` and no rest; fewer pairs than that are one batch."""
    for start in range(0, max(1, len(pairs) - size + 1), size):
        yield pairs[start : start + size]
