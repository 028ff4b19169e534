"""`transformers.Trainer`, told how our steps, checkpoints and processes look.

Promise: a checkpoint is taken for one only if it was written to its end, by all processes; a loss that is no longer
finite stops the run with its step, kind and items.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.mirm.folder import LOSSES
from pipeline.mirm.losses import Loss, read_losses, recent, write_losses
from pipeline.mirm.objectives import Given, answer_gradients, contrast_gradients
from pipeline.mirm.passes import Share, levelled, mark
from pipeline.mirm.tasks import Kind
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.progress import Bar

WEIGHTS, COMPLETE = "trained.safetensors", "complete"
NAMED_ITEMS = 5  # in the message about a diverged loss


class Engine(Trainer):
    """Trainer, told how our batches and checkpoints look."""

    optimizer: torch.optim.Optimizer | None

    def __init__(self, params: FinetuneMirm, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.params = params
        self.share = Share(self.args.process_index, self.args.world_size)
        self.losses: list[Loss] = []
        self.model_accepts_loss_kwargs = False

    def training_step(self, model: nn.Module, inputs: Given | str, num_items_in_batch: Any = None) -> Tensor:
        """Gradients of the step's two losses by their weights; their sum. Raises MolarError: why there is no step."""
        if isinstance(inputs, str):
            raise MolarError(f"finetune_mirm: {inputs}")
        model.train()
        given = self._prepare_inputs(inputs)
        weights, pairs = given["weights"], len(given["keys_T"])
        whole = torch.zeros((), device=self.args.device)
        answers, *views = levelled([given["answers"], *given["views"]], self.accelerator)
        left = sum(len(passes) for passes in (answers, *views))

        def forward(*of_a_part: Any) -> Tensor:
            if torch.is_grad_enabled():
                mark(model, self.accelerator, last=left == 1)
            with self.compute_loss_context_manager():
                return model(*of_a_part)

        def backward(loss: Tensor) -> None:
            nonlocal left
            self.accelerator.backward(loss)
            left -= 1

        if given["tokens"]:
            own = answer_gradients(forward, backward, answers, given["tokens"], weights.answer, self.share)
            whole += weights.answer * self.accelerator.reduce(own, "sum")
        if pairs:
            gather = partial(self.share.gathered, length=pairs, accelerator=self.accelerator)
            temperature = self.params.objectives.temperature
            contrast = contrast_gradients(forward, backward, views, given, temperature, self.share, gather)
            whole += weights.contrast * contrast
        self._refuse_unless_finite(whole.item(), given["kind"])
        self.losses.append(Loss(self.state.global_step + 1, given["kind"], whole.item()))
        return whole

    def _refuse_unless_finite(self, value: float, kind: Kind) -> None:
        if math.isfinite(value):
            return
        step = self.state.global_step
        named = self.train_dataset.tasks.item_ids(step)
        more = ", ..." if len(named) > NAMED_ITEMS else ""
        raise MolarError(
            f"finetune_mirm: the loss is {value} at step {step + 1} ({kind}; items "
            f"{', '.join(named[:NAMED_ITEMS])}{more}): lower finetune_mirm.learning_rate or raise warmup_steps"
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """What was trained, and nothing that the backbone's own folder still has. `state_dict`: whole, if sharded."""
        if not self.args.should_save:
            return
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        whole = trained if state_dict is None else {name: state_dict[name] for name in trained}
        save_file({name: tensor.detach().contiguous() for name, tensor in whole.items()}, directory / WEIGHTS)
        write_losses(directory / LOSSES, self.losses)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Once the model is where it will be: FSDP and DeepSpeed want no earlier one."""
        if self.optimizer is None:
            self.optimizer = _optimizer(self.model.model, self.params)
        return self.optimizer

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """`read` has done it, before a wrapper shards the weights."""

    def read(self, directory: Path) -> None:
        """The weights and losses of a checkpoint."""
        trained = load_file(directory / WEIGHTS)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in trained:
                    parameter.copy_(trained[name])
        self.losses = read_losses(directory / LOSSES)


class Progress(TrainerCallback):
    """The bar with each kind's recent loss, and the mark that a checkpoint is whole."""

    def __init__(self, engine: Engine, progress: Bar) -> None:
        self._engine, self._bar = engine, progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            self._bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.note(recent(self._engine.losses))
        self._bar.advance()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes.meet()  # each has written its random state
        if not args.should_save:
            return
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _optimizer(model: nn.Module, params: FinetuneMirm) -> torch.optim.Optimizer:
    """AdamW, the vision tower's parameters at their own rate; matrices decay, norms and biases do not."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    tower = {id(p) for p in base.get_encoder(modality="image").parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = params.vision_learning_rate if id(parameter) in tower else params.learning_rate
            decay = params.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        betas=(0.9, params.adam_beta2),
        fused=True,  # one call instead of a loop over a hundred small tensors
    )
