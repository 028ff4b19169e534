"""Tiny random checkpoints of the six families, of their real classes, saved as a published one is.

Sizes are the smallest that keep what tells the families apart: Qwen's M-RoPE and merged patches, InternVL's pixel
shuffle, DeepSeek-VL's SigLIP tower, Mllama's tiles and its gated cross-attention.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.mirm.backbone import image_only

HIDDEN, VISION = 32, 16
SIDE = 56  # pixels, of the families with one size of picture
SPARE = 8  # embedding rows behind the vocabulary, as published checkpoints have them

ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}


def text(tokenizer: PreTrainedTokenizerFast, spare: int, **more: object) -> dict[str, object]:
    """A decoder of two layers and four heads, two of them for keys and values."""
    return {
        "vocab_size": len(tokenizer) + spare,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": HIDDEN // 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,  # or every item looks alike
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | more


def tokenizer_of(*special: str, bos: bool = False, **named: str) -> PreTrainedTokenizerFast:
    """Bytes and the family's special tokens; `bos`: it opens every text with one, as Llama's does."""
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    whole = Tokenizer(models.BPE(alphabet, []))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens(["<pad>", "<s>", "</s>", *special, *named.values()])
    if bos:
        from tokenizers.processors import TemplateProcessing

        start = ("<s>", whole.token_to_id("<s>"))
        whole.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[start])
    return PreTrainedTokenizerFast(
        tokenizer_object=whole,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named,
    )


Parts = tuple[PreTrainedModel, ProcessorMixin]
QWEN = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}


def qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": QWEN["image_token"], "video_token_id": QWEN["video_token"]}
    names |= {f"vision_{edge}_token_id": f"<|vision_{edge}|>" for edge in ("start", "end")}
    return {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}


def qwen(spare: int, config: type, model: type, processor: type, patch: int, **vision: object) -> Parts:
    tokenizer = tokenizer_of("<|vision_start|>", "<|vision_end|>", **QWEN)
    built = model(
        config(
            text_config=text(tokenizer, spare, rope_parameters=ROPE),
            vision_config={"depth": 2, "num_heads": 2, "patch_size": patch, "initializer_range": 0.1} | vision,
            **qwen_ids(tokenizer),
        )
    )
    pictures = Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=patch * patch * 4)
    return built, image_only(processor)(image_processor=pictures, tokenizer=tokenizer)


def qwen2_vl(spare: int) -> Parts:
    vision = {"embed_dim": VISION, "hidden_size": HIDDEN, "mlp_ratio": 2}
    return qwen(spare, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor, 14, **vision)


def qwen2_5_vl(spare: int) -> Parts:
    vision = {"hidden_size": VISION, "out_hidden_size": HIDDEN, "intermediate_size": 32, "fullatt_block_indexes": [1]}
    return qwen(spare, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, 14, **vision)


def qwen3_vl(spare: int) -> Parts:
    vision = {"hidden_size": VISION, "out_hidden_size": HIDDEN, "intermediate_size": 32}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return qwen(spare, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, 16, **vision)


def internvl(spare: int) -> Parts:
    named = {"start_image_token": "<img>", "end_image_token": "</img>"}
    named |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = tokenizer_of(**named)
    vision = {"hidden_size": VISION, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": [SIDE, SIDE], "patch_size": [14, 14], "initializer_range": 0.1}
    config = InternVLConfig(
        text_config=text(tokenizer, spare, model_type="qwen2"),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    pictures = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=False)
    processor = image_only(InternVLProcessor)(
        image_processor=pictures, tokenizer=tokenizer, image_seq_length=(SIDE // 14) ** 2 // 4
    )
    return InternVLForConditionalGeneration(config), processor


def deepseek_vl(spare: int) -> Parts:
    tokenizer = tokenizer_of(image_token="<image_placeholder>")
    vision = {"hidden_size": VISION, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DeepseekVLConfig(
        text_config=text(tokenizer, spare, model_type="llama"),
        vision_config=vision | {"image_size": SIDE, "patch_size": 14},
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    pictures = DeepseekVLImageProcessorPil(size={"height": SIDE, "width": SIDE}, min_size=14)
    processor = DeepseekVLProcessor(image_processor=pictures, tokenizer=tokenizer, num_image_tokens=(SIDE // 14) ** 2)
    return DeepseekVLForConditionalGeneration(config), processor


def mllama(spare: int) -> Parts:  # its table always has eight rows more than its vocabulary
    """Four layers, the second of which looks at pictures; its gates are opened, for at zero they hide everything."""
    tokenizer = tokenizer_of("<|reserved|>", bos=True, image_token="<|image|>")
    image_id = tokenizer.convert_tokens_to_ids("<|image|>")
    config = MllamaConfig(
        text_config=text(tokenizer, 0, vocab_size=image_id, num_hidden_layers=4, cross_attention_layers=[1])
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        vision_config={
            "hidden_size": VISION,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "vision_output_dim": 2 * VISION,
            "intermediate_layers_indices": [0],
            "image_size": SIDE,
            "patch_size": 14,
            "max_num_tiles": 4,
        },
        image_token_index=image_id,
    )
    model = MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.7)
    pictures = MllamaImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_image_tiles=4)
    return model, MllamaProcessor(image_processor=pictures, tokenizer=tokenizer)


BUILDERS: dict[str, Callable[[int], Parts]] = {
    build.__name__: build for build in (qwen2_vl, qwen2_5_vl, qwen3_vl, internvl, deepseek_vl, mllama)
}


@cache
def folder(family: str, spare: int = SPARE) -> Path:
    """A checkpoint of the family, built once per test process; `spare`: embedding rows behind the vocabulary."""
    directory = Path(mkdtemp()) / family
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = BUILDERS[family](spare)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def as_published(directory: Path) -> Path:
    """The tiny Qwen2-VL in the layout of Qwen/Qwen2-VL-2B-Instruct: a flat config of older names in bfloat16, the slow
    tokenizer's files, and the picture's bounds as `min_pixels` and `max_pixels`."""
    native = folder("qwen2_vl")
    shutil.copytree(native, directory)
    for name in ("tokenizer.json", "processor_config.json"):
        (directory / name).unlink()
    config = json.loads((native / "config.json").read_text("utf-8"))
    inner = config.pop("text_config")
    rope = inner.pop("rope_parameters")
    flat = {key: value for key, value in inner.items() if key not in ("model_type", "layer_types", "head_dim")}
    vision = {
        key: value for key, value in config["vision_config"].items() if key not in ("model_type", "rope_parameters")
    }
    config |= flat | {
        "torch_dtype": "bfloat16",
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "vision_config": vision,
        "transformers_version": "4.41.2",
    }
    del config["dtype"]
    whole = json.loads((native / "tokenizer.json").read_text("utf-8"))
    written = {
        "config.json": config,
        "preprocessor_config.json": {
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
        },
        "chat_template.json": {"chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"},
        "vocab.json": whole["model"]["vocab"],
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(token["id"]): {key: token[key] for key in ("content", "lstrip", "normalized", "rstrip", "special")}
                | {"single_word": False}
                for token in whole["added_tokens"]
            },
            "additional_special_tokens": ["<|vision_start|>", "<|vision_end|>", *QWEN.values()],
            "bos_token": None,
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "model_max_length": 32768,
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    }
    for name, value in written.items():
        (directory / name).write_text(json.dumps(value), "utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    return directory
