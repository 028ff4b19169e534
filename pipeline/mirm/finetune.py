"""Fine-tune the backbone on IT, SA and UB: the loss of answers, contrast or both, `transformers.Trainer` as the engine.

Promise: the same inputs, params and seed give the same weights, interrupted and resumed or not: examples depend on
(seed, step) alone, and a checkpoint holds trained weights, optimizer, schedule, random state and the losses so far.

Full tuning has two learning rates, the vision tower's and the rest's; `train_vision: false` freezes the tower. LoRA
trains adapters on the decoder's linear layers and the embedding token's row, and is merged at the end, so that the
result is a plain checkpoint either way. A step is so many examples whatever memory there is: one of more than
`batch_tokens` padded tokens is taken in parts, whose gradients add up to those of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from pipeline.catalog.catalogue import Items, Sequences
from pipeline.errors import MolarError
from pipeline.live import Live
from pipeline.mirm.backbone import DTYPES
from pipeline.mirm.curves import Curves
from pipeline.mirm.folder import LOSSES, Mirm
from pipeline.mirm.losses import HeldOut, Loss, read_losses, recent, write_losses
from pipeline.mirm.objectives import Given, Losses, Steps, answer_gradients, contrast_gradients, held_out_losses
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Kind, Tasks
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.progress import Bar, bar

CHECKPOINTS = 10  # per run, evenly spaced; at most so much of the work is lost to a kill
FINAL_SHARE = 0.05  # of the peak learning rate, where the cosine ends
NOT_THE_DECODER = r".*(visual|vision_tower|vision_model|aligner|multi_modal_projector).*"  # in all six families
WEIGHTS, COMPLETE = "trained.safetensors", "complete"
NAMED_ITEMS = 5  # in the message about a diverged loss


@dataclass(frozen=True)
class Finetuned:
    mirm: Mirm
    losses: list[Loss]
    held_out: list[HeldOut]


def finetune(
    mirm: Mirm,
    items: Items,
    sequences: Sequences,
    params: FinetuneMirm,
    seed: int,
    scratch: Path,
    device: torch.device,
    workers: int,
    live: Live | None = None,
) -> Finetuned:
    """Train `mirm.model` in place (float32 weights), resuming from `scratch` if it holds a checkpoint.

    Raises MolarError: no example can be made of the catalogue, or the loss is no longer finite.
    """
    tasks = Tasks(items, sequences, Prompts(items, mirm.processor, mirm.settings), params, seed)
    steps = Steps(tasks, Pictures(items, mirm), mirm, params)
    before = held_out_losses(mirm, steps, params, device)
    torch.manual_seed(seed)  # LoRA's initial values and every dropout
    if params.gradient_checkpointing:
        mirm.model.activation_checkpointing_enable({"use_reentrant": False})
    model = _with_adapters(mirm, params) if params.tuning == "lora" else mirm.model
    if params.tuning == "full":
        model.get_encoder(modality="image").requires_grad_(params.train_vision)
    trainer = Engine(
        temperature=params.objectives.temperature,
        model=Losses(model),
        args=_arguments(params, seed, scratch, device, workers),
        train_dataset=steps,
        data_collator=lambda features: features[0],  # a step is already a batch
        optimizers=(_optimizer(model, params), None),
    )
    trainer.remove_callback(PrinterCallback)
    with bar("fine-tune", params.steps, "steps") as progress:
        trainer.add_callback(Progress(trainer, progress))
        if live is not None:
            trainer.add_callback(Curves(live, lambda: trainer.losses))
        trainer.train(resume_from_checkpoint=_last_complete(scratch))
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    if params.gradient_checkpointing:
        model.activation_checkpointing_disable()
    after = held_out_losses(Mirm(model, mirm.processor, mirm.settings), steps, params, device)
    model = model.to("cpu", DTYPES[params.precision]).eval()
    held_out = [HeldOut(kind, count, before[kind][0], loss) for kind, (loss, count) in after.items()]
    return Finetuned(Mirm(model, mirm.processor, mirm.settings), trainer.losses, held_out)


class Engine(Trainer):
    """Trainer, told how our batches and checkpoints look."""

    def __init__(self, temperature: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature
        self.losses: list[Loss] = []
        self.model_accepts_loss_kwargs = False

    def training_step(self, model: nn.Module, inputs: Given, num_items_in_batch: Any = None) -> Tensor:
        """Gradients of the step's two losses by their weights; their sum."""
        model.train()
        given = self._prepare_inputs(inputs)
        weights, backward = given["weights"], self.accelerator.backward
        whole = torch.zeros((), device=self.args.device)

        def forward(*of_a_part: Any) -> Tensor:
            with self.compute_loss_context_manager():
                return model(*of_a_part)

        if given["answers"]:
            whole += weights.answer * answer_gradients(forward, backward, given["answers"], weights.answer)
        if len(given["keys_T"]):
            whole += weights.contrast * contrast_gradients(forward, backward, given, self.temperature)
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
        """What was trained, and nothing that the backbone's own folder still has."""
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        trained = {name: p.detach().contiguous() for name, p in self.model.named_parameters() if p.requires_grad}
        save_file(trained, directory / WEIGHTS)
        write_losses(directory / LOSSES, self.losses)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        directory = Path(resume_from_checkpoint)
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
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _with_adapters(mirm: Mirm, params: FinetuneMirm) -> PeftModel:
    return get_peft_model(
        mirm.model,
        LoraConfig(
            r=params.lora.rank,
            lora_alpha=params.lora.alpha,
            lora_dropout=params.lora.dropout,
            target_modules="all-linear",
            exclude_modules=NOT_THE_DECODER,
            trainable_token_indices=[mirm.settings.embedding_token_id],
        ),
    )


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


def _arguments(params: FinetuneMirm, seed: int, scratch: Path, device: torch.device, workers: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(scratch),
        max_steps=params.steps,
        per_device_train_batch_size=1,  # one element of Steps is one batch
        train_sampling_strategy="sequential",
        dataloader_num_workers=workers,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": FINAL_SHARE},
        warmup_steps=params.warmup_steps,
        max_grad_norm=params.clip_norm,
        bf16=params.precision == "bfloat16",
        use_cpu=device.type == "cpu",
        seed=seed,
        save_strategy="steps",
        save_steps=max(1, params.steps // CHECKPOINTS),
        save_total_limit=1,
        logging_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _last_complete(scratch: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [path.parent for path in scratch.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))) if whole else None
