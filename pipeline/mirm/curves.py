"""Fine-tuning's curves while it runs (pipeline/live.py): each kind's loss, and the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from pipeline.live import Live
from pipeline.mirm.losses import Loss


class Curves(TrainerCallback):
    """`losses` gives those so far; one process of several writes."""

    def __init__(self, live: Live, losses: Callable[[], list[Loss]]) -> None:
        self._live, self._losses = live, losses

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._live.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.is_world_process_zero:
            last = self._losses()[-1]
            self._live.add(
                state.global_step, {f"loss/{last.kind}": last.value}, given["optimizer"].param_groups[0]["lr"]
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._live.write(state.global_step, {})
