"""Section `embed_items`: every item once through the MIRM."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class Conditioning(Section):
    """A linear map fitted on training items (WhitenRec, ICDE 2024), applied by whoever reads the embeddings."""

    kind: Literal["none", "centre", "zca", "pca"]
    floor: float = Field(ge=0, lt=1)  # eigenvalues are floored at this share of the largest


class EmbedItems(Section):
    modality: Literal["text", "image", "text+image"]  # drop a modality at embedding time; the default is all there is
    batch_tokens: int = Field(ge=64)  # padded tokens per batch; another bound may round otherwise: all anew
    precision: Literal["float32", "bfloat16"]
    dtype: Literal["float16", "float32"]  # of the shards
    shard_items: int = Field(ge=1)
    conditioning: Conditioning
