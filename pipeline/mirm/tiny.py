"""`backbone: tiny`: a small random Qwen2-VL with a tokenizer trained on the catalogue, saved like a published one.

Promise: a folder with the layout of a published checkpoint, opened through the very same path, so that the demo
runs the code that a 2B model would. The same items, params and seed give the same bytes, and nothing in the folder
says where or when it was built.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.catalog.catalogue import Items
from pipeline.mirm.backbone import image_only
from pipeline.params.finetune_mirm import TinyBackbone

# Qwen2-VL's own names, in a fixed order, so that everything downstream finds what it looks for.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"

# The published .02 is meant for widths of thousands; at a hundred, attention starts uniform and long stays so.
INITIAL_STD = 0.06
PATCH, MERGE = 14, 2  # Qwen2-VL's own: pixels a patch, patches a token side
FRAMES = 1  # Qwen2-VL doubles a still picture to make it a video; here that would only cost time
VISION_MLP_RATIO = 2
MAX_POSITIONS = 2048
ROPE_THETA = 1e6


def build_tiny(
    items: Items, rows: np.ndarray, instruction: str, params: TinyBackbone, seed: int, directory: Path
) -> Path:
    """Build the backbone into `directory` and return it.

    `rows` are the item indices whose words the tokenizer may learn from: those with training interactions, since
    cold items belong to no statistic.
    """
    tokenizer = train_tokenizer(words_of(items, rows, instruction), params.vocabulary)
    processor = image_only(Qwen2VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=FRAMES),
        tokenizer=tokenizer,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(tiny_config(params, tokenizer))
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def words_of(items: Items, rows: np.ndarray, instruction: str) -> Iterator[str]:
    """Everything that prompts and answers will say, each piece with the leading space that it has there."""
    yield f"{instruction.rstrip()} next ; "
    for row in rows:
        said = [items.titles[row], items.texts[row], items.captions[row], items.summaries[row]]
        said += [f"{name} {value}" for name, value in items.attributes[row].items()]
        yield from (f" {text}" for text in said if text)


def train_tokenizer(words: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen2-VL's special tokens: any text has tokens, none is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, IMAGE, VIDEO],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": IMAGE, "video_token": VIDEO},
        model_max_length=MAX_POSITIONS,
    )


def tiny_config(params: TinyBackbone, tokenizer: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    """Qwen2-VL's configuration at the sizes of `finetune_mirm.tiny`."""
    head_dim = params.hidden // params.heads
    time = head_dim // 8  # M-RoPE shares the head's frequencies out to time, height and width, about 1 : 1.5 : 1.5
    height = (head_dim // 2 - time) // 2
    return Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": params.hidden,
            "intermediate_size": params.mlp,
            "num_hidden_layers": params.layers,
            "num_attention_heads": params.heads,
            "num_key_value_heads": params.kv_heads,
            "initializer_range": INITIAL_STD,
            "max_position_embeddings": MAX_POSITIONS,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [time, height, head_dim // 2 - time - height],
                "rope_theta": ROPE_THETA,
            },
            "bos_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": params.vision_layers,
            "embed_dim": params.vision_dim,
            "hidden_size": params.hidden,
            "num_heads": params.vision_heads,
            "initializer_range": INITIAL_STD,
            "mlp_ratio": VISION_MLP_RATIO,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
