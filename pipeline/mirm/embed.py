"""Every item once through the MIRM: the last hidden state at the embedding token (paper 3.3).

Promise: an item's vector has the same bits whatever its neighbours in a batch are and wherever among them it stands;
so neither the size and order of the catalogue, nor what the cache holds, nor a kill changes a shard. Kernels round by
the shapes they are given, so every forward pass of an item has one shape, which the item alone decides: as many tokens
as its own length rounded up, pictures of one form, and a fixed number of rows, free ones filled with copies (or, on a
CPU, any number of rows that rounds alike: pipeline/mirm/rows.py).

Tests hold this on a CPU for six families. Another device, processor or version of the libraries may round otherwise,
and so may another `batch_tokens`, which bounds the rows: each has a cache of its own. Where a batch does not fit into
memory, all items go on with half of the tokens, and with the cache of that half: a run's vectors are of one row count
for each length, and the next run finds them, if the same batch does not fit again. Several processes could not agree
on it and stop instead, with a line that says what to lower. Not promised: that the number of
threads makes no difference (one and two made none), and anything of a GPU, whose kernels may add up in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain

import numpy as np
import PIL
import torch
import transformers
from torch import Tensor

from pipeline import processes
from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.mirm import cache
from pipeline.mirm.ahead import ahead, one_line_if_a_worker_dies
from pipeline.mirm.batch import Example, collate
from pipeline.mirm.compiling import BACKEND, compiled_decoder
from pipeline.mirm.folder import HELD_OUT, LOSSES, Mirm, Modality
from pipeline.mirm.last_token import COPIES, embedding_tokens_alone
from pipeline.mirm.once import Embedded, embed_once
from pipeline.mirm.pictures import Form, Pictures
from pipeline.mirm.prompt import Prompts, Shown
from pipeline.mirm.rows import ROWS, DoesNotFitError, fewer_tokens, filled_rows, is_out_of_memory, rows_of
from pipeline.params.embed_items import EmbedItems
from pipeline.progress import say

NOT_WEIGHTS = (LOSSES, HELD_OUT)  # of data/mirm
LENGTH_STEP = 16  # tokens; coarser: more padding, finer: more batches that are not full
LENGTH_AXIS = {
    "input_ids": 1,
    "attention_mask": 1,
    "mm_token_type_ids": 1,
    "position_ids": 2,
    "cross_attention_mask": 1,
}


@dataclass(frozen=True)
class Shape:
    """Of a forward pass, as one item decides it."""

    length: int  # of the padded rows
    pictures: tuple[Form, ...]


def model_digests(artifact: Artifact) -> dict[str, str]:
    """SHA-256 of each file of data/mirm that decides a vector."""
    return {name: entry["sha256"] for name, entry in artifact.facts["files"].items() if name not in NOT_WEIGHTS}


def embed_items(
    mirm: Mirm, items: Items, params: EmbedItems, digests: dict[str, str], device: torch.device, workers: int = 0
) -> Embedded:
    """Embed all items, known ones from the cache. `digests` names the model by content (`model_digests`); `workers`
    processes prepare pictures beside the model.

    Raises MolarError: a damaged picture, a worker that died, an item that does not fit into memory, no compiler.
    """
    backbone = " ".join(word[:40] for pair in mirm.settings.backbone.items() for word in pair if word)
    encoder = Encoder(mirm, items, params.modality, device, params.batch_tokens, workers)
    while True:
        name = cache.scope(
            model=digests,
            modality=params.modality,
            precision=params.precision,
            batch_tokens=encoder.batch_tokens,
            shapes=f"{ROWS} rows, lengths by {LENGTH_STEP}, {COPIES} copies",
            device=kind_of(device),
            torch=torch.__version__.split("+")[0],
            transformers=transformers.__version__,
            **({"pillow": PIL.__version__} if "image" in params.modality else {}),  # it decodes and scales pictures
            **({"compiled": BACKEND} if params.compile else {}),  # not named where it is off: earlier caches stay good
        )
        try:
            with one_line_if_a_worker_dies(), compiled_decoder(mirm, device) if params.compile else nullcontext():
                return embed_once(encoder, name, f"{backbone}, {params.modality}, {params.precision}", len(items))
        except DoesNotFitError as error:
            if processes.count() > 1:  # the others go on as before: one run would have two row counts
                raise
            encoder.batch_tokens = fewer_tokens(error, encoder.batch_tokens)
            say(
                f"embed_items: {error.rows} rows of {error.length} tokens do not fit into memory: all items as with "
                f"embed_items.batch_tokens = {encoder.batch_tokens}, which spares the try"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()  # or the pieces of the failed batch would be in the way of the next


def kind_of(device: torch.device) -> str:
    """What decides how a device rounds, as far as it can be asked."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


class Encoder:
    """One MIRM over one catalogue, with the modality asked for, at most about `batch_tokens` padded tokens a batch."""

    def __init__(
        self,
        mirm: Mirm,
        items: Items,
        modality: Modality,
        device: torch.device,
        batch_tokens: int = 4096,
        workers: int = 0,
    ) -> None:
        self.items, self.device, self.batch_tokens, self._workers = items, device, batch_tokens, workers
        self.model = mirm.model.to(device).eval()
        self._pad_id: int = mirm.processor.tokenizer.pad_token_id or 0  # masked out, so any id will do
        self._prompts = Prompts(items, mirm.processor, mirm.settings)
        self._pictures = Pictures(items, mirm)
        self._show = {"picture": "image" in modality, "words": "text" in modality}

    def key(self, item: int) -> bytes:
        """What the item's vector depends on, besides the model."""
        prompt = self._prompts.item(item, **self._show)
        ids = [part for part in prompt if not isinstance(part, Shown)]
        return cache.item_key(ids, self.items.image_bytes(item) if len(ids) < len(prompt) else None)

    def batches(self, items: Sequence[int] | None = None) -> Iterator[list[int]]:
        """`items` (all) in batches of one shape, about longest first, so that one too large for memory fails soon.

        A batch is given out once it is full, so that no more pictures than that wait in memory; the rest at the end.
        """
        shows = self.items.has_image if self._show["picture"] else [False] * len(self.items)
        chosen = range(len(self.items)) if items is None else items
        lengths = {item: len(self._prompts.item(item, **self._show)) for item in chosen}
        waiting: dict[Shape, list[int]] = {}
        order = sorted(lengths, key=lambda item: (not shows[item], -lengths[item], item))
        pictured = [item for item in order if shows[item]]  # they come first
        for item in chain(ahead(self._pictures, pictured, self._workers), order[len(pictured) :]):
            shape = self.shape(item)
            waiting.setdefault(shape, []).append(item)
            if len(waiting[shape]) == rows_of(shape.length, self.batch_tokens):
                yield waiting.pop(shape)
        yield from (waiting[shape] for shape in sorted(waiting, key=lambda shape: -shape.length))

    def shape(self, item: int) -> Shape:
        """Items of one shape may share a batch.

        Rows with and without a picture stay apart in any case: Mllama's text-only rows change when a neighbour has one.
        """
        prompt = self._prompts.item(item, **self._show)
        pictures = [self._pictures[part.item] for part in prompt if isinstance(part, Shown)]
        length = len(prompt) + sum(len(picture.ids) - 1 for picture in pictures)
        return Shape(_rounded(length), tuple(picture.form for picture in pictures))

    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D). The bits are promised for items of one shape, no more than a batch of them.

        Raises DoesNotFitError.
        """
        length = max(self.shape(item).length for item in items)
        filled = [*items, *[items[0]] * (filled_rows(len(items), length, self.batch_tokens, self.device) - len(items))]
        try:
            return self._forward(filled, length)[: len(items)]
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
        # raised here, where the error and the tensors that it holds are gone
        raise DoesNotFitError(len(filled), length, self.items.item_ids[items[0]])

    def states(self, items: list[int], length: int) -> Tensor:
        """float32 (B, D) on the device, rows padded to `length` tokens; with a graph where gradients are wanted."""
        examples = [Example(self._prompts.item(item, **self._show)) for item in items]
        batch = collate(examples, self._pictures, self._pad_id)
        inputs = {
            name: tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else None)
            for name, tensor in _lengthened(batch.inputs, length, self._pad_id).items()
        }
        last_B = (batch.prompt_lengths_B - 1).to(self.device)
        with embedding_tokens_alone(self.model.get_decoder(), last_B):
            hidden_BLD = self.model.model(**inputs, use_cache=False).last_hidden_state
        return hidden_BLD[torch.arange(len(last_B), device=self.device), last_B].float()

    @torch.inference_mode()
    def _forward(self, filled: list[int], length: int) -> np.ndarray:
        return self.states(filled, length).cpu().numpy()


def _rounded(length: int) -> int:
    """The next multiple above: every row is padded, or a batch of rows without padding would get no mask, and with
    it another kernel."""
    return (length // LENGTH_STEP + 1) * LENGTH_STEP


def _lengthened(inputs: dict[str, Tensor], length: int, pad_id: int) -> dict[str, Tensor]:
    """The inputs with masked-out tokens behind them up to `length`."""
    longer = dict(inputs)
    for name, axis in LENGTH_AXIS.items():
        if name in inputs:
            shape = list(inputs[name].shape)
            shape[axis] = length - shape[axis]
            filler = inputs[name].new_full(shape, pad_id if name == "input_ids" else 0)
            longer[name] = torch.cat([inputs[name], filler], axis)
    return longer
