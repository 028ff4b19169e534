"""How large the backbone is, from its configuration alone: the model is built on torch's meta device, no weight read.

A backbone is `tiny`, a local folder, or a hub id; of a hub id only what the local cache holds is looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from pipeline.mirm.backbone import locate
from pipeline.mirm.tiny import tiny_config, train_tokenizer
from pipeline.params.finetune_mirm import FinetuneMirm

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Size:
    """Parameters of each part, and what a picture becomes."""

    total: int
    decoder: int  # without the table of word embeddings, which costs no arithmetic
    words: int  # that table: vocabulary x hidden, the cost of one token's logits
    vision: int
    layers: int  # of the decoder
    hidden: int
    mlp: int
    picture_tokens: int  # in the decoder's sequence
    patches: int  # in the vision tower's


def found(backbone: str, revision: str | None) -> Path | None:
    """The folder of the backbone's files; None for a hub id that the local cache does not hold.

    Raises MolarError for a path that is no folder.
    """
    from huggingface_hub import try_to_load_from_cache

    source = locate(backbone)
    if isinstance(source, Path):
        return source
    config = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def absent_weights(folder: Path) -> list[str]:
    """Names of weight files that the checkpoint in `folder` lacks."""
    index = folder / INDEX
    if index.is_file():
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return sorted(name for name in names if not (folder / name).is_file())
    return [] if any(folder.glob("*.safetensors")) else ["model.safetensors"]


def size_of(params: FinetuneMirm, folder: Path | None) -> Size:
    """The size of the backbone in `folder` (None: of `tiny`, before its tokenizer is trained).

    Raises one of `probe.FAILURES` for a configuration that does not add up.
    """
    if folder is None:
        config: Any = tiny_config(params.tiny, train_tokenizer(iter(()), params.tiny.vocabulary))
        config.text_config.vocab_size = params.tiny.vocabulary  # an untrained tokenizer has fewer words
    else:
        try:
            config = AutoConfig.from_pretrained(folder)
        except StrictDataclassError as error:
            raise ValueError(str(error).replace("\n", " ")) from error
    return sized(config, params.image_pixels)


def sized(config: Any, image_pixels: int) -> Size:
    """The size of a backbone of this configuration, whose pictures have `image_pixels` at most."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    words, vision = _count(model.get_input_embeddings()), model.get_encoder(modality="image")
    text = config.get_text_config()
    tokens, patches = picture(config, image_pixels)
    return Size(
        total=_count(model),
        decoder=_count(model.get_decoder()) - words,
        words=words,
        vision=_count(vision),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        mlp=text.intermediate_size,
        picture_tokens=tokens,
        patches=patches,
    )


def picture(config: Any, image_pixels: int) -> tuple[int, int]:
    """(tokens, patches) of a picture of `image_pixels`, by the family's configuration.

    Qwen and InternVL merge patches into tokens and take any size; DeepSeek-VL and Mllama always see one, and Mllama's
    decoder looks at it from the side, through cross-attention, all of its tiles.
    """
    vision = config.vision_config
    patch, side = _side(vision.patch_size), _side(getattr(vision, "image_size", None))
    merge = getattr(vision, "spatial_merge_size", None)
    if merge is None and getattr(config, "downsample_ratio", None):
        merge, image_pixels = round(1 / config.downsample_ratio), min(image_pixels, side**2)
    if merge is not None:
        tokens = max(1, image_pixels // (patch * merge) ** 2)
        return tokens, tokens * merge**2
    patches = (side // patch) ** 2
    tiles = getattr(vision, "max_num_tiles", None)
    return (1, patches * tiles) if tiles else (patches, patches)


def _side(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value or 0)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
