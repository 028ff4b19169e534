"""Every item once through a frozen text encoder, an image encoder, or both, their vectors side by side.

Promise: an item's vector does not depend on its neighbours in a batch, nor on padding (up to rounding, 1e-5). An item
without words, or without a picture, has zeros in that encoder's place. Each encoder has a cache of its own, so that
text+image takes from it what text or image alone have left there. Both checkpoints are checked before either runs.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.catalog.catalogue import Items
from pipeline.encoders.checkpoint import find
from pipeline.encoders.image import Pictures
from pipeline.encoders.text import Texts
from pipeline.errors import MolarError
from pipeline.mirm.once import Embedded, embed_once
from pipeline.mirm.prompt import words_of
from pipeline.params.embed_items import EmbedItems


def embed_content(items: Items, params: EmbedItems, device: torch.device) -> Embedded:
    """Embed all items, known ones from the cache. Counts are of texts and of pictures, both together for both.

    Raises MolarError: a checkpoint that cannot be used, or a catalogue without any words (or pictures).
    """
    words, pictures = params.text_encoder, params.image_encoder
    with_text, with_image = "text" in params.encoder, "image" in params.encoder
    if with_text and not any(words_of(items, item) for item in range(len(items))):
        raise MolarError(
            f"embed_items.encoder = '{params.encoder}': no item of the catalogue has a title, attribute or text"
        )
    if with_image and not items.has_image.any():
        raise MolarError(f"embed_items.encoder = '{params.encoder}': no item of the catalogue has a picture")
    text = find("text", words.model, words.revision) if with_text else None
    image = find("image", pictures.model, pictures.revision) if with_image else None
    encoders: list[Texts | Pictures] = []
    if text is not None:
        encoders.append(Texts(text, items, words, params.precision, params.batch_tokens, device))
    if image is not None:
        encoders.append(Pictures(image, items, pictures, params.precision, params.batch_tokens, device))
    parts = [embed_once(encoder, encoder.scope, encoder.about, len(items)) for encoder in encoders]
    return Embedded(
        embeddings_ND=np.concatenate([part.embeddings_ND for part in parts], axis=1),
        encoded=sum(part.encoded for part in parts),
        from_cache=sum(part.from_cache for part in parts),
        rate=1 / sum(1 / max(part.rate, 1e-9) for part in parts),
        cache_bytes=sum(part.cache_bytes for part in parts),
    )
