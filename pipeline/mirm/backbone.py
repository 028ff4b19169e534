"""Open a multimodal LLM: a local folder or a hub id of a supported family, through transformers' Auto classes.

Promise: no remote code, an explicit dtype (a config's own would win otherwise), no weight and no word that the
checkpoint does not hold (transformers would draw missing weights at random and go on), pictures bounded to
`image_pixels` where the family allows it, and one more token, `<|item_emb|>`, at whose last hidden state an item is
read off.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.logging import disable_progress_bar

from pipeline.errors import MolarError

disable_progress_bar()  # transformers' own, for every file it opens; ours tell what a stage does

EMBEDDING_TOKEN = "<|item_emb|>"
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "deepseek_vl", "mllama")
NATIVE = {  # repositories of remote code, and what to open in their place
    "internvl_chat": "OpenGVLab/InternVL3-2B-hf",
    "multi_modality": "deepseek-community/deepseek-vl-1.3b-chat",
}
MARKS = 2  # tokens around a picture, in the Qwen and InternVL families
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
UNREADABLE = (OSError, ValueError, SafetensorError)  # what transformers raises for files that are absent or damaged
UNUSED = ".vision_model.head."  # SigLIP's pooling of a whole picture: no family that has it looks there
ADVICE = (
    "give the folder of a checkpoint as save_pretrained writes it, or a hub id with network (or its files in the hub's "
    "cache)"
)


def image_only(cls: type) -> Any:
    """A processor class without its video part, the only one that needs torchvision.

    Used even where torchvision is installed: the PIL and the torchvision pictures differ in the last digits, and a
    folder saved without the video part must be opened without it.
    """
    attributes = classmethod(lambda _: [name for name in cls.get_attributes() if name != "video_processor"])  # type: ignore[attr-defined]
    return type(cls.__name__, (cls,), {"__module__": cls.__module__, "get_attributes": attributes})


CHOICES = "tiny, a local folder, or a hub id such as Qwen/Qwen2-VL-2B-Instruct"


def locate(name: str, key: str = "finetune_mirm.backbone", choices: str = CHOICES) -> str | Path:
    """A local folder, or else a hub id. Raises MolarError for a path that is no folder, naming the param `key`."""
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise MolarError(f"{key} = '{name}': no such folder ({choices})")
    return name


def family_of(source: str | Path, revision: str | None = None) -> str:
    """The backbone's `model_type`, one of FAMILIES. Raises MolarError: unreachable, no checkpoint, unsupported."""
    is_folder = isinstance(source, Path)
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    except OSError:
        config = {}  # so is a folder without config.json
    family = config.get("model_type")
    if family is None:
        where = (
            f"folder {source}: holds no readable config.json" if isinstance(source, Path) else f"{source}: not found"
        )
        raise MolarError(f"finetune_mirm.backbone: {where}: {ADVICE}")
    if family not in FAMILIES:
        advice = f"choose one of {', '.join(FAMILIES)}"
        if family in NATIVE:
            advice = f"it runs by remote code alone; an edition in native format is {NATIVE[family]}"
        raise MolarError(
            f"finetune_mirm.backbone: {'folder ' if is_folder else ''}{source} is of the unsupported "
            f"family {family!r}: {advice}"
        )
    return family


def load_processor(source: str | Path, image_pixels: int, revision: str | None = None) -> ProcessorMixin:
    """The backbone's processor, pictures through PIL and at most `image_pixels` large where the family allows it.

    Raises MolarError: it is absent or damaged, or its tokenizer is.
    """
    try:
        cls = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(source, revision=revision))]
        if "video_processor" in cls.get_attributes():
            cls = image_only(cls)
        processor = cls.from_pretrained(source, revision=revision, backend="pil")
    except (*UNREADABLE, AttributeError) as error:  # the latter: a tokenizer without the family's special tokens
        raise _refused(source, f"has no readable processor ({first_line(error)})") from None
    tokenizer = processor.tokenizer
    if not set(tokenizer.tokenize("item")) - set(tokenizer.all_special_tokens):
        # what transformers makes of a folder without the tokenizer's files
        raise _refused(source, "has no readable tokenizer (it knows no words)")
    _bound_pictures(processor, image_pixels)
    return processor


def _bound_pictures(processor: ProcessorMixin, image_pixels: int) -> None:
    pictures = processor.image_processor
    if hasattr(pictures, "merge_size"):  # the Qwen families: any size in multiples of patch x merge
        smallest = min(dict(pictures.size)["shortest_edge"], image_pixels)  # Qwen3's would enlarge small pictures
        pictures.size = {"shortest_edge": smallest, "longest_edge": image_pixels}
    elif hasattr(processor, "image_seq_length"):  # InternVL: one square tile, its position embeddings interpolated
        native = dict(pictures.size)["height"]
        per_token = native / math.sqrt(processor.image_seq_length)
        side = min(native, max(1, math.floor(math.sqrt(image_pixels) / per_token)) * per_token)
        pictures.size = {"height": round(side), "width": round(side)}
        pictures.crop_to_patches = False
        processor.image_seq_length = round(side / per_token) ** 2
    # DeepSeek-VL and Mllama always see one size: nothing to bound.


def picture_tokens(processor: ProcessorMixin) -> int:
    """The most tokens that one picture takes in a prompt, its opening and closing marks included."""
    pictures = processor.image_processor
    if hasattr(pictures, "merge_size"):
        return dict(pictures.size)["longest_edge"] // (pictures.patch_size * pictures.merge_size) ** 2 + MARKS
    if hasattr(processor, "image_seq_length"):
        return processor.image_seq_length + MARKS
    return getattr(processor, "num_image_tokens", 1)  # DeepSeek-VL's squares; Mllama's pictures stay beside the prompt


def load_model(source: str | Path, precision: str, revision: str | None = None) -> PreTrainedModel:
    """The backbone's weights in the given precision, on the CPU, in evaluation mode.

    Raises MolarError: they are absent or damaged, or some are.
    """
    try:
        model, lacking = open_weights(AutoModelForImageTextToText, source, precision, revision)
    except UNREADABLE as error:
        raise _refused(source, f"has no readable weights ({first_line(error)})") from None
    if used := [name for name in lacking if UNUSED not in name]:
        raise _refused(source, f"lacks the weights {', '.join(used[:3])} of its model")
    return model.eval()


def open_weights(
    auto: Any, source: str | Path, precision: str, revision: str | None
) -> tuple[PreTrainedModel, list[str]]:
    """An Auto class's model, and the names of what is drawn at random in it: weights that the checkpoint lacks, or
    has in another shape (a tied one is not lacking). Raises one of UNREADABLE."""
    model, info = auto.from_pretrained(
        source, revision=revision, dtype=DTYPES[precision], output_loading_info=True, ignore_mismatched_sizes=True
    )
    return model, sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})


def first_line(error: Exception) -> str:
    """Of transformers' own words, which may go on for a paragraph."""
    words = str(error).strip().splitlines() or [type(error).__name__]
    return words[0].rstrip(": ")


def _refused(source: str | Path, why: str) -> MolarError:
    return MolarError(
        f"finetune_mirm.backbone: {'folder ' if isinstance(source, Path) else ''}{source} {why}: {ADVICE}"
    )


def add_embedding_token(model: PreTrainedModel, processor: ProcessorMixin, seed: int) -> int:
    """Give tokenizer and model the token `<|item_emb|>` and return its id; an earlier MIRM has it and keeps it.

    Published checkpoints have spare embedding rows behind their vocabulary, so the table grows only if there is
    none. Mllama's must not grow (it could not be reloaded): its checkpoints always have spare rows.
    """
    tokenizer, rows = processor.tokenizer, model.get_input_embeddings().weight.shape[0]
    known = tokenizer.get_vocab().get(EMBEDDING_TOKEN)
    if known is not None:
        return known
    tokenizer.add_special_tokens({"additional_special_tokens": [EMBEDDING_TOKEN]}, replace_extra_special_tokens=False)
    token_id = tokenizer.convert_tokens_to_ids(EMBEDDING_TOKEN)
    if token_id >= rows:
        if model.config.model_type == "mllama":
            raise MolarError(f"finetune_mirm.backbone: this Mllama has no spare embedding row for {EMBEDDING_TOKEN}")
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table_VD = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        row_D = torch.randn(table_VD.shape[1], generator=generator) * table_VD[:rows].float().std()
        table_VD[token_id] = row_D.to(table_VD.dtype)
    return token_id
