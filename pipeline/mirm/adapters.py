"""LoRA on a MIRM, wherever one is trained: adapters on the decoder's linear layers and the embedding token's own row.

The vision tower and what carries its states into the decoder stay as they are, in all six families.
"""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model

from pipeline.mirm.folder import Mirm
from pipeline.params.finetune_mirm import Lora

NOT_THE_DECODER = r".*(visual|vision_tower|vision_model|aligner|multi_modal_projector).*"  # in all six families


def with_adapters(mirm: Mirm, lora: Lora) -> PeftModel:
    """`mirm.model` with adapters in it, which alone are trained; their initial values are from torch's generator."""
    return get_peft_model(
        mirm.model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
            exclude_modules=NOT_THE_DECODER,
            trainable_token_indices=[mirm.settings.embedding_token_id],
        ),
    )
