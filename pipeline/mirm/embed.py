"""Every item once through the MIRM: the last hidden state at the embedding token (paper 3.3).

Promise: an item's vector does not depend on its neighbours in a batch, nor on padding (up to rounding, 1e-6). Items
are sorted by length, longest first, so that batches hold little padding and one too large for memory fails at
once. Batches are laid out over all items, known ones included, so that a killed and continued run computes the very
batches, hence the very bits, of an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from PIL import Image

from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.mirm import cache
from pipeline.mirm.batch import Example, collate
from pipeline.mirm.folder import HELD_OUT, LOSSES, Mirm, Modality
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts, Shown
from pipeline.params.embed_items import EmbedItems
from pipeline.progress import bar

NOT_WEIGHTS = (LOSSES, HELD_OUT)  # of data/mirm


@dataclass(frozen=True)
class Embedded:
    embeddings_ND: np.ndarray  # float32, in item_idx order
    encoded: int
    from_cache: int
    rate: float  # items per second, known ones included
    cache_bytes: int


def model_digests(artifact: Artifact) -> dict[str, str]:
    """SHA-256 of each file of data/mirm that decides a vector."""
    return {name: entry["sha256"] for name, entry in artifact.facts["files"].items() if name not in NOT_WEIGHTS}


def embed_items(
    mirm: Mirm, items: Items, params: EmbedItems, digests: dict[str, str], device: torch.device
) -> Embedded:
    """Embed all items, known ones from the cache. `digests` names the model by content (`model_digests`)."""
    name = cache.scope(
        model=digests,
        modality=params.modality,
        precision=params.precision,
        torch=torch.__version__.split("+")[0],
        transformers=transformers.__version__,
    )
    encoder = Encoder(mirm, items, params.modality, device)
    keys = [encoder.key(item) for item in range(len(items))]
    backbone = " ".join(word[:40] for pair in mirm.settings.backbone.items() for word in pair if word)
    about = f"{backbone}, {params.modality}, {params.precision}"
    with cache.opened(name, about) as known, bar("embed items", len(items), "items") as progress:
        vectors = known.find(keys)
        encoded = 0
        for batch in encoder.batches(params.batch_tokens):
            # An item twice in the catalogue has one key and needs one vector.
            missing = list({keys[item]: item for item in batch if keys[item] not in vectors}.values())
            if missing:
                rows_BD = encoder.encode(missing)
                known.add([keys[item] for item in missing], rows_BD)
                vectors |= {keys[item]: row_D for item, row_D in zip(missing, rows_BD, strict=True)}
                encoded += len(missing)
            progress.advance(len(batch))
    embeddings_ND = np.stack([vectors[key] for key in keys])
    return Embedded(embeddings_ND, encoded, len(items) - encoded, progress.rate, known.size)


class Encoder:
    """One MIRM over one catalogue, with the modality asked for."""

    def __init__(self, mirm: Mirm, items: Items, modality: Modality, device: torch.device) -> None:
        self.items, self.device = items, device
        self.model = mirm.model.to(device).eval()
        self._pad_id: int = mirm.processor.tokenizer.pad_token_id or 0  # masked out, so any id will do
        self._prompts = Prompts(items, mirm.processor, mirm.settings)
        self._pictures = Pictures(items, mirm)
        self._show = {"picture": "image" in modality, "words": "text" in modality}
        side = int(mirm.settings.image_pixels**0.5)
        has_pictures = self._show["picture"] and bool(items.has_image.any())
        self._picture_tokens = len(self._pictures.process(Image.new("RGB", (side, side))).ids) if has_pictures else 0

    def key(self, item: int) -> bytes:
        """What the item's vector depends on, besides the model."""
        prompt = self._prompts.item(item, **self._show)
        ids = [part for part in prompt if not isinstance(part, Shown)]
        return cache.item_key(ids, self.items.image_bytes(item) if len(ids) < len(prompt) else None)

    def batches(self, batch_tokens: int) -> Iterator[list[int]]:
        """All items, longest first, about `batch_tokens` padded tokens a batch.

        Rows with and without a picture stay apart: Mllama's text-only rows change when a neighbour has one.
        """
        with_picture = self.items.has_image if self._show["picture"] else [False] * len(self.items)
        # Every picture counts as the largest allowed: exact where a family has one size, else nearly so.
        lengths = [
            len(self._prompts.item(item, **self._show)) + (self._picture_tokens if with_picture[item] else 0)
            for item in range(len(self.items))
        ]
        order = sorted(range(len(self.items)), key=lambda item: (not with_picture[item], -lengths[item], item))
        batch: list[int] = []
        for item in order:
            full = batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens
            if batch and (full or with_picture[item] != with_picture[batch[0]]):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    @torch.inference_mode()
    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D)."""
        examples = [Example(self._prompts.item(item, **self._show)) for item in items]
        batch = collate(examples, self._pictures, self._pad_id)
        inputs = {
            name: tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else None)
            for name, tensor in batch.inputs.items()
        }
        hidden_BLD = self.model.model(**inputs, use_cache=False).last_hidden_state
        last_B = (batch.prompt_lengths_B - 1).to(self.device)
        return hidden_BLD[torch.arange(len(items), device=self.device), last_B].float().cpu().numpy()
