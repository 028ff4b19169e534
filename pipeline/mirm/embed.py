"""Every item once through the MIRM: the last hidden state at the embedding token (paper 3.3).

Promise: an item's vector does not depend on its neighbours in a batch, nor on padding (up to rounding, 1e-6). How
items are batched and known ones found again is `once`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import transformers
from PIL import Image

from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.mirm import cache
from pipeline.mirm.batch import Example, collate
from pipeline.mirm.folder import HELD_OUT, LOSSES, Mirm, Modality
from pipeline.mirm.once import Embedded, embed_once, packed
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts, Shown
from pipeline.params.embed_items import EmbedItems

NOT_WEIGHTS = (LOSSES, HELD_OUT)  # of data/mirm


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
    return embed_once(Encoder(mirm, items, params.modality, device), name, len(items), params.batch_tokens)


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
        self._picture_tokens = (
            len(self._pictures.process([Image.new("RGB", (side, side))])[0].ids) if has_pictures else 0
        )

    def key(self, item: int) -> bytes:
        """What the item's vector depends on, besides the model."""
        prompt = self._prompts.item(item, **self._show)
        ids = [part for part in prompt if not isinstance(part, Shown)]
        return cache.item_key(ids, self.items.image_bytes(item) if len(ids) < len(prompt) else None)

    def batches(self, batch_tokens: int) -> Iterator[list[int]]:
        """All items, longest first, about `batch_tokens` padded tokens a batch.

        Rows with and without a picture stay apart: Mllama's text-only rows change when a neighbour has one.
        """
        with_picture = self.items.has_image.tolist() if self._show["picture"] else [False] * len(self.items)
        # Every picture counts as the largest allowed: exact where a family has one size, else nearly so.
        lengths = [
            len(self._prompts.item(item, **self._show)) + (self._picture_tokens if with_picture[item] else 0)
            for item in range(len(self.items))
        ]
        order = sorted(range(len(self.items)), key=lambda item: (not with_picture[item], -lengths[item], item))
        return packed(order, lengths, batch_tokens, apart=with_picture)

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
