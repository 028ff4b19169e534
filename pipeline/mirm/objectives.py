"""What fine-tuning minimises: a step's examples and pairs as forward passes that fit into memory, and their two losses.

The loss of the answers is a mean over their tokens, so a step in parts adds up to the whole. Contrast is not: each pair
has all others as negatives. Its gradient is taken in two passes (GradCache, Gao et al. 2021): embeddings of every
part without a graph, the loss's gradient by those embeddings, then each part again with a graph to carry it on. Where
dropout is drawn, the second pass draws what the first drew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.mirm.batch import IGNORED, Example, collate, parts
from pipeline.mirm.folder import Mirm
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompt
from pipeline.mirm.tasks import Kind, Tasks
from pipeline.params.finetune_mirm import FinetuneMirm, Objective

Part = tuple[dict[str, Tensor], Tensor]  # inputs of one forward pass, labels (B, L)
View = tuple[dict[str, Tensor], Tensor, Tensor]  # inputs, last positions (B,), places (B,) in the step's order


Forward = Callable[..., Tensor]  # of `Losses`, under whatever autocast the caller wants
Backward = Callable[[Tensor], None]


class Given(TypedDict):
    """One step as tensors."""

    kind: Kind
    weights: Objective
    answers: list[Part]
    views: tuple[list[View], list[View]]  # both sides of the pairs
    keys_T: Tensor  # int64, of the pairs


class Losses(nn.Module):
    """The backbone, asked for the loss of answers or for embeddings."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], labels_BL: Tensor | None, last_B: Tensor | None = None) -> Tensor:
        """With labels their mean cross-entropy; else the hidden states (B, D) float32 at `last_B`.

        Logits are computed at answer tokens alone: with 150,000 words in the vocabulary the rest would fill a GPU.
        """
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model  # adapters stay in
        hidden_BLD = model.model(**inputs, use_cache=False).last_hidden_state
        if labels_BL is None:
            return hidden_BLD[torch.arange(len(hidden_BLD), device=hidden_BLD.device), last_B].float()
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

    def __getitem__(self, step: int) -> Given:
        drawn = self.tasks.step(step)
        sides = [pair.one for pair in drawn.pairs], [pair.other for pair in drawn.pairs]
        views = self._views(sides[0]), self._views(sides[1])
        keys_T = torch.tensor([pair.key for pair in drawn.pairs], dtype=torch.int64)
        return {
            "kind": drawn.kind,
            "weights": drawn.weights,
            "answers": self.parts(drawn.examples),
            "views": views,
            "keys_T": keys_T,
        }

    def parts(self, examples: Sequence[Example]) -> list[Part]:
        """The examples as one forward pass, or as several where one would not fit into memory."""
        fitting = parts(examples, self._pictures, self._tokens) if examples else []
        batches = [collate([examples[row] for row in rows], self._pictures, self._pad_id) for rows in fitting]
        return [(batch.inputs, batch.labels_BL) for batch in batches]

    def _views(self, prompts: Sequence[Prompt]) -> list[View]:
        examples = [Example(prompt) for prompt in prompts]
        views = []
        for rows in parts(examples, self._pictures, self._tokens) if examples else []:
            batch = collate([examples[row] for row in rows], self._pictures, self._pad_id)
            views.append((batch.inputs, batch.prompt_lengths_B - 1, torch.tensor(rows)))
        return views


def answer_gradients(forward: Forward, backward: Backward, given: list[Part], weight: float) -> Tensor:
    """Add the gradients of weight x the mean loss of all answer tokens; return that mean."""
    counts = [int((labels_BL != IGNORED).sum()) for _, labels_BL in given]
    whole = torch.zeros((), device=given[0][1].device)
    for (inputs, labels_BL), count in zip(given, counts, strict=True):
        loss = forward(inputs, labels_BL) * (count / sum(counts))
        whole += loss.detach()
        if not torch.isfinite(whole):
            break  # the caller says which step; its gradients are worth nothing
        backward(loss * weight)
    return whole


def contrast_gradients(forward: Forward, backward: Backward, given: Given, temperature: float) -> Tensor:
    """Add the gradients of weight x the contrast between both sides of the pairs; return the contrast."""
    device = given["keys_T"].device
    states: list[list[Tensor]] = []
    sides = []
    with torch.no_grad():
        for views in given["views"]:
            states.append([])
            rows = []
            for inputs, last_B, _ in views:
                states[-1].append(_random_state(device))
                rows.append(forward(inputs, None, last_B))
            places_T = torch.cat([places_B for _, _, places_B in views])
            sides.append(torch.cat(rows)[places_T.argsort()].requires_grad_())
    no_negatives_TT = same_but_itself(given["keys_T"])
    with torch.enable_grad():
        loss = symmetric_info_nce(sides[0], sides[1], no_negatives_TT, temperature)
    if not torch.isfinite(loss):
        return loss.detach()
    wanted = torch.autograd.grad(loss * given["weights"].contrast, sides)
    after = _random_state(device)
    for views, of_side, gradient_TD in zip(given["views"], states, wanted, strict=True):
        for (inputs, last_B, places_B), state in zip(views, of_side, strict=True):
            _set_random_state(device, state)
            backward((forward(inputs, None, last_B) * gradient_TD[places_B]).sum())
    _set_random_state(device, after)
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@torch.inference_mode()
def held_out_losses(
    mirm: Mirm, steps: Steps, params: FinetuneMirm, device: torch.device
) -> dict[Kind, tuple[float, int]]:
    """Mean loss of an answer token and the number of examples, by kind, of the examples that were kept apart."""
    model = Losses(mirm.model.to(device).eval())
    found: dict[Kind, tuple[float, int]] = {}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bfloat16")
    for kind, examples in steps.tasks.held_out().items():
        total, tokens = 0.0, 0
        for start in range(0, len(examples), params.batch_size):
            for tensors, labels_BL in steps.parts(examples[start : start + params.batch_size]):
                count = int((labels_BL != IGNORED).sum())
                with autocast:
                    loss = model({name: t.to(device) for name, t in tensors.items()}, labels_BL.to(device))
                total, tokens = total + loss.item() * count, tokens + count
        if tokens:
            found[kind] = total / tokens, len(examples)
    return found
