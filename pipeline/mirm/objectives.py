"""What fine-tuning minimises: a step's examples and pairs as forward passes that fit into memory, and their two losses.

The loss of the answers is a mean over their tokens, so a step in parts adds up to the whole. Contrast is not: each pair
has all others as negatives. Its gradient is taken in two passes (GradCache, Gao et al. 2021): embeddings of every
part without a graph, the loss's gradient by those embeddings, then each part again with a graph to carry it on. Where
dropout is drawn, the second pass draws what the first drew. Of several processes each has its rows of every step
(passes.py); between the two passes they gather the embeddings, so that the negatives are the whole step's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TypedDict, TypeVar

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.errors import MolarError
from pipeline.mirm.ahead import to_shared_memory
from pipeline.mirm.batch import IGNORED, Example, collate, parts
from pipeline.mirm.folder import Mirm
from pipeline.mirm.passes import Share, spares
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Shown
from pipeline.mirm.tasks import Kind, Tasks
from pipeline.params.finetune_mirm import FinetuneMirm, Objective

P = TypeVar("P", bound=tuple)
WHOLE = Share()  # of one process

Part = tuple[dict[str, Tensor], Tensor]  # inputs of one forward pass, labels (B, L)
View = tuple[dict[str, Tensor], Tensor, Tensor]  # inputs, last positions (B,), places (B,) among the process's rows
Passes = Sequence[tuple[P, bool]]  # parts, and whether they weigh anything (passes.py)

Forward = Callable[..., Tensor]  # of `Losses`, under whatever autocast the caller wants
Backward = Callable[[Tensor], None]
Gather = Callable[[Tensor], Tensor]  # (S, D) of each process -> (T, D), all rows in the step's order


class Given(TypedDict):
    """One process's share of a step as tensors; each list with its spares (passes.py)."""

    kind: Kind
    weights: Objective
    tokens: int  # in the answers of the whole step
    answers: tuple[list[Part], list[Part]]
    views: tuple[tuple[list[View], list[View]], tuple[list[View], list[View]]]  # both sides of the pairs
    keys_T: Tensor  # int64, of all pairs of the step


class Losses(nn.Module):
    """The backbone, asked for the loss of answers or for embeddings."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        super().__init__()
        self.model = model
        self._no_split_modules = model._no_split_modules  # what FSDP wraps

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
    """A step's batch, made on demand: one element for each process, all of a step side by side.

    So Trainer's own way of dealing elements out in turn gives each process its share of every step.
    """

    def __init__(self, tasks: Tasks, pictures: Pictures, mirm: Mirm, params: FinetuneMirm, processes: int = 1) -> None:
        self.tasks, self._pictures, self._processes = tasks, pictures, processes
        self._steps, self._tokens = params.steps, params.batch_tokens
        self._pad_id: int = mirm.processor.tokenizer.pad_token_id or 0  # masked out, so any id will do

    def __len__(self) -> int:
        return self._steps * self._processes

    def __getitem__(self, element: int) -> Given | str:
        """A text says why there is none: an error would arrive with a traceback, or not at all (ahead.py)."""
        try:
            given = self.given(element)
        except MolarError as error:
            return str(error)
        return to_shared_memory(_tensors(given)) or given

    def given(self, element: int) -> Given:
        step, rank = divmod(element, self._processes)
        drawn, share = self.tasks.step(step), Share(rank, self._processes)
        sides = [Example(pair.one) for pair in drawn.pairs], [Example(pair.other) for pair in drawn.pairs]
        keys_T = torch.tensor([pair.key for pair in drawn.pairs], dtype=torch.int64)
        return {
            "kind": drawn.kind,
            "weights": drawn.weights,
            "tokens": sum(len(example.answer) for example in drawn.examples),
            "answers": self._shared(drawn.examples, share, self.parts),
            "views": (self._shared(sides[0], share, self.views), self._shared(sides[1], share, self.views)),
            "keys_T": keys_T,
        }

    def _shared(
        self, whole: Sequence[Example], share: Share, made: Callable[[Sequence[Example]], list[P]]
    ) -> tuple[list[P], list[P]]:
        """The process's parts, and the spares that the rows of others make it need."""
        own = made(share.rows(whole))
        if share.of == 1:
            return own, []
        first: dict[bool, Example] = {}
        for example in whole:
            first.setdefault(any(isinstance(part, Shown) for part in example.prompt), example)
        return own, spares(own, *(made([first[sort]])[0] if sort in first else None for sort in (True, False)))

    def parts(self, examples: Sequence[Example]) -> list[Part]:
        """The examples as one forward pass, or as several where one would not fit into memory."""
        fitting = parts(examples, self._pictures, self._tokens) if examples else []
        batches = [collate([examples[row] for row in rows], self._pictures, self._pad_id) for rows in fitting]
        return [(batch.inputs, batch.labels_BL) for batch in batches]

    def views(self, examples: Sequence[Example]) -> list[View]:
        """The prompts likewise, to be embedded."""
        views = []
        for rows in parts(examples, self._pictures, self._tokens) if examples else []:
            batch = collate([examples[row] for row in rows], self._pictures, self._pad_id)
            views.append((batch.inputs, batch.prompt_lengths_B - 1, torch.tensor(rows)))
        return views


def _tensors(given: Given) -> Iterator[Tensor]:
    yield given["keys_T"]
    for batches in (given["answers"], *given["views"]):
        for inputs, *others in chain(*batches):
            yield from inputs.values()
            yield from others


def answer_gradients(
    forward: Forward, backward: Backward, passes: Passes[Part], tokens: int, weight: float, share: Share = WHOLE
) -> Tensor:
    """Add the gradients of weight x the mean loss of all answer tokens, `tokens` in the step; return the own part.

    No pass is left out, whatever the loss: other processes wait for it. The caller refuses what is not finite.
    """
    mean = torch.zeros((), device=passes[0][0][1].device)
    for (inputs, labels_BL), counts in passes:
        loss = forward(inputs, labels_BL) * (int((labels_BL != IGNORED).sum()) * counts / tokens)
        mean += loss.detach()
        backward(loss * (weight * share.of))
    return mean


def contrast_gradients(
    forward: Forward,
    backward: Backward,
    both: Sequence[Passes[View]],
    given: Given,
    temperature: float,
    share: Share = WHOLE,
    gather: Gather = lambda own_SD: own_SD,
) -> Tensor:
    """Add the gradients of weight x the contrast between both sides of the pairs; return the whole step's contrast."""
    device = given["keys_T"].device
    states: list[list[Tensor]] = []
    sides = []
    with torch.no_grad():
        for passes in both:
            states.append([])
            rows, places = [], []
            for (inputs, last_B, places_B), counts in passes:
                states[-1].append(_random_state(device))
                embedded_BD = forward(inputs, None, last_B)
                rows.append(embedded_BD if counts else embedded_BD[:0])
                places.append(places_B if counts else places_B[:0])
            sides.append(gather(torch.cat(rows)[torch.cat(places).argsort()]).requires_grad_())
    no_negatives_TT = same_but_itself(given["keys_T"])
    with torch.enable_grad():
        loss = symmetric_info_nce(sides[0], sides[1], no_negatives_TT, temperature)
    if not torch.isfinite(loss):
        return loss.detach()
    wanted = torch.autograd.grad(loss * given["weights"].contrast, sides)
    after = _random_state(device)
    for passes, of_side, gradient_TD in zip(both, states, wanted, strict=True):
        own_SD = share.gradient(gradient_TD)
        for ((inputs, last_B, places_B), counts), state in zip(passes, of_side, strict=True):
            _set_random_state(device, state)
            embedded_BD = forward(inputs, None, last_B)
            backward((embedded_BD * (own_SD[places_B] if counts else 0.0)).sum())
    _set_random_state(device, after)
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
