"""An item's picture through an image encoder: its first position, the mean of all, or the model's own pooling layer.

Pictures are prepared by the checkpoint's own image processor, through PIL even where torchvision is installed: the two
differ in the last digits. An item without a picture has no key, so that its vector is zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from pipeline.catalog.catalogue import Items
from pipeline.encoders.checkpoint import Checkpoint, unreadable
from pipeline.errors import MolarError
from pipeline.mirm import cache
from pipeline.mirm.once import packed
from pipeline.params.embed_items import ImageEncoder

PATCH = 16  # pixels a side, where a family has no patches: it only decides how many pictures make a batch


class Pictures:
    """One image encoder over one catalogue."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        items: Items,
        params: ImageEncoder,
        precision: str,
        batch_tokens: int,
        device: torch.device,
    ) -> None:
        """Raises MolarError: no image processor, or a pooling that the model does not have."""
        try:
            self._processor = AutoImageProcessor.from_pretrained(
                checkpoint.source, revision=checkpoint.revision, backend="pil"
            )
        except (ImportError, OSError, ValueError) as error:  # some need a library of their own
            raise unreadable(checkpoint, "image processor", error) from None
        self.items, self.pooling, self.device, self._source = items, params.pooling, device, checkpoint.source
        self._batch_tokens = batch_tokens
        self.model = checkpoint.load(precision, with_pooler=params.pooling == "pooler", device=device)
        patch = getattr(checkpoint.config, "patch_size", None)
        self._patch = patch if isinstance(patch, int) else PATCH
        self.about = f"image encoder {checkpoint.source}, {params.pooling}, {precision}"
        self.scope = checkpoint.scope(params.pooling, precision, pillow=PIL.__version__)

    def key(self, item: int) -> bytes | None:
        """What the item's vector depends on, besides the model; None: no picture."""
        image = self.items.image_bytes(item)
        return None if image is None else cache.item_key([], image)

    def batches(self, items: Sequence[int]) -> Iterator[list[int]]:
        """These items, about `batch_tokens` patches a batch."""
        first = self.items.image(items[0]) if items else None
        if first is None:
            return iter(())
        # Encoders see one size, all but a few: the first picture tells it.
        _, height, width = self.process(first).shape
        return packed(items, [1 + height * width // self._patch**2] * len(self.items), self._batch_tokens)

    def process(self, image: Image.Image) -> Tensor:
        """float32 (channels, height, width)."""
        return self._processor(image, return_tensors="pt")["pixel_values"][0]

    @torch.inference_mode()
    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D)."""
        pictures = [self.process(image) for item in items if (image := self.items.image(item)) is not None]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for row, picture in enumerate(pictures):
            by_shape.setdefault(tuple(picture.shape), []).append(row)
        vectors: dict[int, np.ndarray] = {}
        for rows in by_shape.values():
            pixels_BCHW = torch.stack([pictures[row] for row in rows]).to(self.device, self.model.dtype)
            vectors |= dict(zip(rows, self._pooled(pixels_BCHW), strict=True))
        return np.stack([vectors[row] for row in range(len(items))])

    def _pooled(self, pixels_BCHW: Tensor) -> np.ndarray:
        output = self.model(pixel_values=pixels_BCHW)
        pooled = getattr(output, "pooler_output", None)
        hidden = output.last_hidden_state
        if self.pooling == "pooler" and pooled is not None:
            rows_BD = pooled.flatten(1)
        elif self.pooling != "pooler" and hidden.ndim == 3:
            rows_BD = hidden[:, 0] if self.pooling == "cls" else hidden.float().mean(1)
        else:
            others = "cls or mean" if hidden.ndim == 3 else "pooler"
            raise MolarError(
                f"embed_items.image_encoder.pooling = '{self.pooling}': {self._source} has none: choose {others}"
            )
        return rows_BD.float().cpu().numpy()
