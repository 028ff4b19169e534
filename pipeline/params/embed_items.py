"""Section `embed_items`: every item once through the MIRM, or through a frozen text or image encoder."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class Conditioning(Section):
    """A linear map fitted on training items (WhitenRec, ICDE 2024), applied by whoever reads the embeddings."""

    kind: Literal["none", "centre", "zca", "pca"]
    floor: float = Field(ge=0, lt=1)  # eigenvalues are floored at this share of the largest


class TextEncoder(Section):
    """A BERT-like model, read when `encoder` holds text."""

    model: str | None  # a local folder, or a hub id
    revision: str | None  # of a hub id
    pooling: Literal["mean", "cls"]  # over an item's tokens, or the first of them
    max_tokens: int = Field(ge=8)  # of title, attributes and text together, special tokens included


class ImageEncoder(Section):
    """A ViT-like model, read when `encoder` holds image."""

    model: str | None  # a local folder, or a hub id
    revision: str | None  # of a hub id
    pooling: Literal["cls", "mean", "pooler"]  # first position, mean of all positions, the model's own pooling layer


class EmbedItems(Section):
    encoder: Literal["mirm", "text", "image", "text+image"]  # not mirm: frozen features for the content baselines
    text_encoder: TextEncoder
    image_encoder: ImageEncoder
    modality: Literal[
        "text", "image", "text+image"
    ]  # of the MIRM: drop one at embedding time; the default is all there is
    # Padded tokens a batch, halved for all if one does not fit; another bound may round otherwise, so all anew.
    batch_tokens: int = Field(ge=64)
    precision: Literal["float32", "bfloat16"]
    compile: bool  # the MIRM's text decoder, by torch.compile
    dtype: Literal["float16", "float32"]  # of the shards
    shard_items: int = Field(ge=1)
    conditioning: Conditioning
