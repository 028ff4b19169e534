"""The loss of answers: examples -> forward passes that fit into memory -> mean cross-entropy of the answer tokens."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from pipeline.mirm.batch import IGNORED, Example, collate, parts
from pipeline.mirm.folder import Mirm
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.tasks import Kind, Tasks
from pipeline.params.finetune_mirm import FinetuneMirm

Part = tuple[dict[str, Tensor], Tensor]  # inputs of one forward pass, labels (B, L)


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

    def __init__(self, tasks: Tasks, pictures: Pictures, mirm: Mirm, params: FinetuneMirm) -> None:
        self.tasks, self._pictures = tasks, pictures
        self._steps, self._tokens = params.steps, params.batch_tokens
        self._pad_id: int = mirm.processor.tokenizer.pad_token_id or 0  # masked out, so any id will do

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        drawn = self.tasks.step(step)
        return {"kind": drawn.kind, "parts": self.parts(drawn.examples)}

    def parts(self, examples: list[Example]) -> list[Part]:
        """The examples as one forward pass, or as several where one would not fit into memory."""
        batches = (
            collate(part, self._pictures, self._pad_id) for part in parts(examples, self._pictures, self._tokens)
        )
        return [(batch.inputs, batch.labels_BL) for batch in batches]


@torch.inference_mode()
def held_out_losses(
    mirm: Mirm, steps: Steps, params: FinetuneMirm, device: torch.device
) -> dict[Kind, tuple[float, int]]:
    """Mean loss of an answer token and the number of examples, by kind, of the examples that were kept apart."""
    answer_loss = AnswerLoss(mirm.model.to(device).eval())
    found: dict[Kind, tuple[float, int]] = {}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bfloat16")
    for kind, examples in steps.tasks.held_out().items():
        total, tokens = 0.0, 0
        for start in range(0, len(examples), params.batch_size):
            for tensors, labels_BL in steps.parts(examples[start : start + params.batch_size]):
                count = int((labels_BL != IGNORED).sum())
                with autocast:
                    loss = answer_loss({name: t.to(device) for name, t in tensors.items()}, labels_BL.to(device))
                total, tokens = total + loss.item() * count, tokens + count
        if tokens:
            found[kind] = total / tokens, len(examples)
    return found
