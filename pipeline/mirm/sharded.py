"""Weights that FSDP or DeepSpeed keep in pieces while they are trained: whole again at the end, on the first process.

DDP and a single process train the model itself; then there is nothing to do.
"""

from __future__ import annotations

import os
from copy import deepcopy

from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from pipeline import processes
from pipeline.errors import MolarError


def copy_of(model: PreTrainedModel | PeftModel, trainer: Trainer) -> PreTrainedModel | PeftModel | None:
    """Where the trained weights will go, in the first process's memory; None if they stay where they are.

    Raises MolarError: FSDP is asked for and accelerate has none (on a CPU), or it is to save its pieces, which no
    resumed run of another number of processes could read.
    """
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not trainer.is_fsdp_enabled:
        raise MolarError(
            "finetune_mirm: the accelerate file asks for FSDP, which needs GPUs: take configs/ddp.yaml here"
        )
    if not trainer.is_fsdp_enabled and not trainer.is_deepspeed_enabled:
        return None
    if trainer.is_fsdp_enabled:
        kind = str(trainer.accelerator.state.fsdp_plugin.state_dict_type)
        if "FULL_STATE_DICT" not in kind:
            raise MolarError(
                f"finetune_mirm: the accelerate file's fsdp_state_dict_type is {kind.rsplit('.')[-1]}: checkpoints and "
                "data/mirm hold whole weights, set it to FULL_STATE_DICT"
            )
    return deepcopy(model).to("cpu") if processes.is_first() else None


def whole(
    model: PreTrainedModel | PeftModel, apart: PreTrainedModel | PeftModel | None, trainer: Trainer
) -> PreTrainedModel | PeftModel:
    """The trained model, whole, on the first process. Called by all of them."""
    if not trainer.is_fsdp_enabled and not trainer.is_deepspeed_enabled:
        return model
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if apart is None:
        return model
    apart.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    return apart
