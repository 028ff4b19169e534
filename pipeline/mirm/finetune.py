"""Fine-tune the backbone on IT, SA and UB: the loss of answers, contrast or both, `transformers.Trainer` as the engine.

Promise: the same inputs, params and seed give the same weights, interrupted and resumed or not: examples depend on
(seed, step) alone, and a checkpoint holds trained weights, optimizer, schedule, random state and the losses so far.
Several processes share out each step (passes.py) and give the same weights up to rounding, but for other dropout.

Full tuning has two learning rates, the vision tower's and the rest's; `train_vision: false` freezes the tower. LoRA
trains adapters on the decoder's linear layers and the embedding token's row, and is merged at the end, so that the
result is a plain checkpoint either way. A step is so many examples whatever memory there is: one of more than
`batch_tokens` padded tokens is taken in parts, whose gradients add up to those of the whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from pipeline import processes
from pipeline.catalog.catalogue import Items, Sequences
from pipeline.live import Live
from pipeline.mirm import sharded
from pipeline.mirm.adapters import with_adapters
from pipeline.mirm.ahead import one_line_if_a_worker_dies
from pipeline.mirm.backbone import DTYPES
from pipeline.mirm.curves import Curves
from pipeline.mirm.engine import COMPLETE, Engine, Progress
from pipeline.mirm.folder import Mirm
from pipeline.mirm.held_out import held_out_losses
from pipeline.mirm.losses import HeldOut, Loss
from pipeline.mirm.objectives import Losses, Steps
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Tasks
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.progress import bar

CHECKPOINTS = 10  # per run, evenly spaced; at most so much of the work is lost to a kill
FINAL_SHARE = 0.05  # of the peak learning rate, where the cosine ends


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

    Called by all processes; what the first one returns is the result.
    Raises MolarError: no example can be made of the catalogue, or the loss is no longer finite.
    """
    tasks = Tasks(items, sequences, Prompts(items, mirm.processor, mirm.settings), params, seed)
    steps = Steps(tasks, Pictures(items, mirm), mirm, params, processes.count())
    before = held_out_losses(mirm, steps, params, device) if processes.is_first() else []
    torch.manual_seed(seed)  # LoRA's initial values and every dropout
    if params.gradient_checkpointing:
        mirm.model.activation_checkpointing_enable({"use_reentrant": False})
    model = with_adapters(mirm, params.lora) if params.tuning == "lora" else mirm.model
    if params.tuning == "full":
        model.get_encoder(modality="image").requires_grad_(params.train_vision)
    trainer = Engine(
        params,
        model=Losses(model),
        args=_arguments(params, seed, scratch, device, workers),
        train_dataset=steps,
        data_collator=itemgetter(0),  # a step is already a batch
    )
    trainer.remove_callback(PrinterCallback)
    apart = sharded.copy_of(model, trainer)
    if processes.count() > 1:  # no two processes drop out the same
        torch.manual_seed(int(np.random.SeedSequence([seed, processes.rank()]).generate_state(1)[0]))
    checkpoint = _last_complete(scratch)
    if checkpoint is not None:
        trainer.read(Path(checkpoint))
    with bar("fine-tune", params.steps, "steps") as progress:
        trainer.add_callback(Progress(trainer, progress))
        if live is not None:
            trainer.add_callback(Curves(live, lambda: trainer.losses))
        with one_line_if_a_worker_dies():
            trainer.train(resume_from_checkpoint=checkpoint)
    model = sharded.whole(model, apart, trainer)
    if not processes.is_first():
        return Finetuned(mirm, trainer.losses, [])
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    if params.gradient_checkpointing:
        model.activation_checkpointing_disable()
    after = held_out_losses(Mirm(model, mirm.processor, mirm.settings), steps, params, device)
    model = model.to("cpu", DTYPES[params.precision]).eval()
    held_out = [
        HeldOut(asked.kind, asked.loss, asked.examples, asked.value, later.value)
        for asked, later in zip(before, after, strict=True)
    ]
    return Finetuned(Mirm(model, mirm.processor, mirm.settings), trainer.losses, held_out)


def _arguments(params: FinetuneMirm, seed: int, scratch: Path, device: torch.device, workers: int) -> TrainingArguments:
    in_bfloat16 = params.precision == "bfloat16"
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if in_bfloat16 else "no"  # params decide, no launcher's file
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=params.steps,
        per_device_train_batch_size=1,  # one element of Steps is one batch
        train_sampling_strategy="sequential",
        dataloader_num_workers=workers,
        dataloader_multiprocessing_context="fork" if workers else None,  # Python 3.14 would pickle the catalogue
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": FINAL_SHARE},
        warmup_steps=params.warmup_steps,
        max_grad_norm=params.clip_norm,
        bf16=in_bfloat16,
        use_cpu=device.type == "cpu",
        seed=seed,
        save_strategy="steps",
        save_steps=max(1, params.steps // CHECKPOINTS),
        save_total_limit=2,  # the newest whole one stays while the one before it is being removed
        logging_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # a process is one GPU; Trainer would split each step's rows among all that it sees
    return arguments


def _last_complete(scratch: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [path.parent for path in scratch.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))) if whole else None
