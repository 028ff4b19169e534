"""Fine-tune the backbone on IT, SA and UB: next-token loss on the answers, `transformers.Trainer` as the engine.

Promise: the same inputs, params and seed give the same weights, interrupted and resumed or not: examples depend on
(seed, step) alone, and a checkpoint holds trained weights, optimizer, schedule, random state and the losses so far.

Full tuning has two learning rates, the vision tower's and the rest's; `train_vision: false` freezes the tower. LoRA
trains adapters on the decoder's linear layers and the embedding token's row, and is merged at the end, so that the
result is a plain checkpoint either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from pipeline.catalog.catalogue import Items, Sequences
from pipeline.errors import MolarError
from pipeline.mirm.backbone import DTYPES
from pipeline.mirm.batch import IGNORED, collate
from pipeline.mirm.folder import Mirm
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Kind, Tasks
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.progress import Bar, bar

CHECKPOINTS = 10  # per run, evenly spaced; at most so much of the work is lost to a kill
FINAL_SHARE = 0.05  # of the peak learning rate, where the cosine ends
NOT_THE_DECODER = r".*(visual|vision_tower|vision_model|aligner|multi_modal_projector).*"  # in all six families
WEIGHTS, LOSSES, COMPLETE = "trained.safetensors", "losses.tsv", "complete"
NAMED_ITEMS = 5  # in the message about a diverged loss
SMOOTHING = 50  # steps of a kind that a reported loss averages over


@dataclass(frozen=True)
class Loss:
    step: int  # 1, 2, ...
    kind: Kind
    value: float


@dataclass(frozen=True)
class Finetuned:
    mirm: Mirm
    losses: list[Loss]


def finetune(
    mirm: Mirm,
    items: Items,
    sequences: Sequences,
    params: FinetuneMirm,
    seed: int,
    scratch: Path,
    device: torch.device,
    workers: int,
) -> Finetuned:
    """Train `mirm.model` in place (float32 weights), resuming from `scratch` if it holds a checkpoint.

    Raises MolarError: no example can be made of the catalogue, or the loss is no longer finite.
    """
    tasks = Tasks(items, sequences, Prompts(items, mirm.processor, mirm.settings), params, seed)
    steps = Steps(tasks, Pictures(items, mirm), mirm, params.steps)
    torch.manual_seed(seed)  # LoRA's initial values and every dropout
    model = _with_adapters(mirm, params) if params.tuning == "lora" else mirm.model
    if params.tuning == "full":
        model.get_encoder(modality="image").requires_grad_(params.train_vision)
    trainer = Engine(
        model=AnswerLoss(model),
        args=_arguments(params, seed, scratch, device, workers),
        train_dataset=steps,
        data_collator=lambda features: features[0],  # a step is already a batch
        optimizers=(_optimizer(model, params), None),
    )
    trainer.remove_callback(PrinterCallback)
    with bar("fine-tune", params.steps, "steps") as progress:
        trainer.add_callback(Progress(trainer, progress))
        trainer.train(resume_from_checkpoint=_last_complete(scratch))
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model = model.to("cpu", DTYPES[params.precision]).eval()
    return Finetuned(Mirm(model, mirm.processor, mirm.settings), trainer.losses)


class AnswerLoss(nn.Module):
    """Mean cross-entropy of the answer tokens. Logits are computed at those alone: with 150,000 words in the
    vocabulary the rest would fill a GPU."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], labels_BL: Tensor) -> Tensor:
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model  # adapters stay in
        hidden_BLD = model.model(**inputs, use_cache=False).last_hidden_state
        next_BL = labels_BL[:, 1:]
        answers_BL = next_BL != IGNORED
        logits_AV = model.get_output_embeddings()(hidden_BLD[:, :-1][answers_BL])
        return F.cross_entropy(logits_AV.float(), next_BL[answers_BL])


class Steps(Dataset):
    """One element a step: the whole batch, made on demand."""

    def __init__(self, tasks: Tasks, pictures: Pictures, mirm: Mirm, steps: int) -> None:
        self.tasks, self._pictures, self._steps = tasks, pictures, steps
        self._pad_id: int = mirm.processor.tokenizer.pad_token_id or 0  # masked out, so any id will do

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        drawn = self.tasks.step(step)
        batch = collate(drawn.examples, self._pictures, self._pad_id)
        return {"kind": drawn.kind, "inputs": batch.inputs, "labels_BL": batch.labels_BL}


class Engine(Trainer):
    """Trainer, told how our batches and checkpoints look."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.losses: list[Loss] = []
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], **_: Any) -> Tensor:
        loss = model(inputs["inputs"], inputs["labels_BL"])
        step, value = self.state.global_step, loss.item()
        if not math.isfinite(value):
            named = self.train_dataset.tasks.item_ids(step)
            more = ", ..." if len(named) > NAMED_ITEMS else ""
            raise MolarError(
                f"finetune_mirm: the loss is {value} at step {step + 1} ({inputs['kind']}; items "
                f"{', '.join(named[:NAMED_ITEMS])}{more}): lower finetune_mirm.learning_rate or raise warmup_steps"
            )
        self.losses.append(Loss(step + 1, inputs["kind"], value))
        return loss

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
