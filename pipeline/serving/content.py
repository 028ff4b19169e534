"""The embedding of one new item, by the very encoder of the run: the DUEG's MIRM (mirm/own.py), or the frozen content
encoders.

Promise: an item with the words, attributes and picture of one in the catalogue gets that one's vector, to the bit where
machine and libraries are the same. Before the first new item, one of the catalogue's is encoded again and compared with
the stored one, so that a params.yaml edited since, or another model, is refused. No cache is read or written, and
`embed_items.compile`, which differs by rounding, is left aside.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Items
from pipeline.catalog.images import MAX_BYTES, UnusableImageError, encode
from pipeline.encoders import checkpoint, image, text
from pipeline.errors import MolarError
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import Mirm, load_mirm
from pipeline.mirm.prompt import words_of
from pipeline.mirm.shards import read_conditioning, read_embeddings
from pipeline.mirm.verify import OF_PRECISION, OF_SHARDS
from pipeline.params.embed_items import EmbedItems
from pipeline.params.ingest import Ingest

Picture = str | Path | bytes | Image.Image
PICTURES = "a path, bytes, a PIL image or None"
LONGEST_NAMED = 200  # characters of a path in a message: it may be anything


class One(Items):
    """A single item in memory."""

    def __init__(
        self, item_id: str, title: str | None, words: str | None, attributes: Mapping[str, str], picture: bytes | None
    ) -> None:
        self.item_ids, self.titles, self.texts = [item_id], [title], [words]
        self.captions, self.summaries = [None], [None]
        self.attributes = [dict(attributes)]
        self.has_image = np.array([picture is not None])
        self._picture = picture

    def image_bytes(self, idx: int) -> bytes | None:
        return self._picture


class Content:
    """What turns an item into the features that user models read."""

    def __init__(self, params: EmbedItems, ingest: Ingest, mirm: Artifact, stored: Artifact, device: str) -> None:
        self._params, self._ingest, self._mirm, self._stored = params, ingest, mirm, stored
        self._device = torch.device(device)
        self._proved = False

    def picture(self, given: Picture | None) -> bytes | None:
        """A picture as `ingest` would have kept it; NaN, the gap of a data frame, is none.

        Raises MolarError: it cannot be opened or used.
        """
        if given is None or (isinstance(given, float) and math.isnan(given)):
            return None
        source: Path | bytes | Image.Image
        if isinstance(given, Image.Image):
            source, name = given, "the picture given"
        elif isinstance(given, bytes):
            source, name = given, f"the picture given ({len(given):,} bytes)"
        elif isinstance(given, str | PathLike):
            source, name = Path(given), str(given)
            if not _is_file(source):
                told = name if len(name) <= LONGEST_NAMED else f"{name[:LONGEST_NAMED]}..."
                raise MolarError(f"add_item: there is no picture file {told}: give {PICTURES}")
        else:
            raise MolarError(f"add_item: image is of the type {type(given).__name__}: give {PICTURES}")
        try:
            if isinstance(source, Image.Image):
                source = _png(source)
            if isinstance(source, bytes) and len(source) > MAX_BYTES:
                raise UnusableImageError(f"it is above {MAX_BYTES // 1_000_000} MB")
            return encode(source, self._ingest.image_size, self._ingest.max_image_pixels).content
        except UnusableImageError as error:
            raise MolarError(f"add_item: {name} cannot be used: {error}") from None

    def refuse(self, item: One) -> None:
        """Raise MolarError for an item with a picture that the run does not look at, or with nothing that it reads."""
        key = "modality" if self._params.encoder == "mirm" else "encoder"
        reads: str = getattr(self._params, key)
        of = f"embed_items.{key} = {reads!r}"
        if item.has_image[0] and "image" not in reads:
            raise MolarError(f"add_item: this run reads words alone ({of}): add the item without its picture")
        has_words = "text" in reads and words_of(item, 0)
        if not has_words and not ("image" in reads and item.has_image[0]):
            needs = {"text": "a title, text or attributes", "image": "a picture"}.get(reads, "a title, text or picture")
            raise MolarError(f"add_item: there is nothing to embed ({of}): give the item {needs}")

    def features(self, item: One, example: One, number: int) -> NDArray[np.float32]:
        """(K,) float32, conditioned. `example` is the stored item of that number, which proves the encoder once.

        Raises MolarError: a missing model, a picture that cannot be decoded, vectors unlike those of the run.
        """
        if not self._proved:
            self._prove(example, number)
            self._proved = True
        mean_D, matrix_DK = read_conditioning(self._stored)
        raw_D = self._raw(item).astype(self._params.dtype).astype(np.float32)  # as the shards would have kept it
        if raw_D.shape != mean_D.shape:  # the example lacks what another encoder reads of this item
            raise self._unlike(f"item {item.item_ids[0]!r} has another width than what")
        features_K: NDArray[np.float32] = (raw_D - mean_D) @ matrix_DK
        return features_K

    @cached_property
    def _loaded(self) -> Mirm:
        return load_mirm(self._mirm, self._params.precision)

    def _raw(self, item: One) -> NDArray[np.float32]:
        """(D,) float32."""
        asked = self._params
        if asked.encoder == "mirm":
            encoder = Encoder(self._loaded, item, asked.modality, self._device, asked.batch_tokens)
            return np.asarray(encoder.encode([0])[0])
        parts: list[NDArray[np.float32] | None] = []
        shared = (asked.precision, asked.batch_tokens, self._device)
        if "text" in asked.encoder:
            found = checkpoint.find("text", asked.text_encoder.model, asked.text_encoder.revision)
            parts.append(_encoded(text.Texts(found, item, asked.text_encoder, *shared)))
        if "image" in asked.encoder:
            found = checkpoint.find("image", asked.image_encoder.model, asked.image_encoder.revision)
            parts.append(_encoded(image.Pictures(found, item, asked.image_encoder, *shared)))
        return _side_by_side(parts, self._stored.facts["dim"])

    def _prove(self, example: One, number: int) -> None:
        stored_D = read_embeddings(self._stored)[number]
        anew_D = self._raw(example)
        allowed = OF_PRECISION[self._params.precision] + OF_SHARDS[self._params.dtype]
        same_width = anew_D.shape == stored_D.shape
        if not (same_width and np.abs(anew_D - stored_D).max() <= allowed * np.abs(anew_D).max()):
            raise self._unlike(f"item {example.item_ids[0]!r} encoded anew is not what")

    def _unlike(self, what: str) -> MolarError:
        return MolarError(
            f"add_item: {what} {self._stored.directory} holds: params.yaml, the model or the libraries are not those "
            f"of the run: `dvc repro {self._stored.stage}` mends it"
        )


def one_of(items: Items, number: int) -> One:
    """A stored item by itself."""
    picture = items.image_bytes(number)
    return One(items.item_ids[number], items.titles[number], items.texts[number], items.attributes[number], picture)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for any file, a folder that may not be entered
        return False


def _png(picture: Image.Image) -> bytes:
    """Raises UnusableImageError: its file, which Pillow reads no sooner than now, breaks off."""
    buffer = io.BytesIO()
    try:
        kept = picture if picture.mode in ("RGB", "RGBA", "L", "LA", "P") else picture.convert("RGB")
        kept.save(buffer, "PNG")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):  # what Pillow's decoders raise
        raise UnusableImageError("picture is truncated or damaged") from None
    return buffer.getvalue()


def _encoded(encoder: text.Texts | image.Pictures) -> NDArray[np.float32] | None:
    """One item's vector; None: there is nothing to encode."""
    return None if encoder.key(0) is None else np.asarray(encoder.encode([0])[0])


def _side_by_side(parts: list[NDArray[np.float32] | None], width: int) -> NDArray[np.float32]:
    """(D,), D being `width` with the run's encoders: zeros for nothing to encode, as wide as the other part leaves.

    A model's config need not tell its own: ResNet's has no `hidden_size`.
    """
    known = [part for part in parts if part is not None]
    gap = np.zeros(max(0, width - sum(len(part) for part in known)), np.float32)
    return np.concatenate([gap if part is None else part for part in parts]) if known else gap
