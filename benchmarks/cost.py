"""What the paper's systems cost: tokens, FLOPs and GPU hours of each backbone on each data set, from sizes alone.

    python -m benchmarks.cost                   hours of an H100 SXM, as a Markdown table
    python -m benchmarks.cost --gpu a100

Nothing is downloaded, loaded or measured: backbones are their published dimensions, built on torch's meta device, and
the sums are those of `molar doctor` (pipeline/doctor/work.py, whose head says what they leave out). Fine-tuning is the
paper's: 10,000 examples of each task once, LoRA for the two large backbones. The DUEG is the backbone's decoder, five
epochs over every user. The last column is the same training with no vector kept, as HLLM does it: in every step the
items of each window, and a negative for each of them, go through the backbone forth and back.

"workers" is how many processes (runtime.workers) prepare pictures as fast as the GPU embeds them, at 4 ms a picture.
Assumed: words as long as the preset's prompt keeps them (MovieLens: titles and genres, 12 tokens), a picture for each
item, 50 % of the GPU's dense bf16 rate in embedding and 40 % in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from transformers import DeepseekVLConfig, InternVLConfig, MllamaConfig, Qwen2VLConfig

from pipeline.doctor import work
from pipeline.doctor.counts import Counts
from pipeline.doctor.model import Size, sized
from pipeline.doctor.speed import PICTURE_SECONDS
from pipeline.params import Params, load_params
from pipeline.params.finetune_mirm import Objective

GPUS = {"h100": ("H100 SXM", 989e12), "a100": ("A100", 312e12)}  # dense bf16 FLOPs a second, as published
EMBEDDING, TRAINING = 0.5, 0.4  # shares of it that are reached: assumptions
HISTORY, EPOCHS, BATCH = 50, 5, 128
EXAMPLES = 30_000  # 10,000 of each of three tasks
BEHAVIOUR_HISTORY = 10  # items of a behaviour example; the paper does not say


def qwen(hidden: int, mlp: int, heads: int, kv_heads: int, vocabulary: int, tied: bool) -> Qwen2VLConfig:
    """Qwen2-VL: one vision tower for all sizes."""
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    tower = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14, "hidden_size": hidden}
    text = decoder(hidden, mlp, 28, heads, kv_heads, vocabulary) | {"rope_parameters": rope}
    return Qwen2VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=tied)


def decoder(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }


def vit(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


LLAMA = {"model_type": "llama", "tie_word_embeddings": False}
UNTIED = {"tie_word_embeddings": False}
BACKBONES: dict[str, Any] = {
    "Qwen2-VL-2B": qwen(1536, 8960, 12, 2, 151_936, tied=True),
    "InternVL2.5-2B": InternVLConfig(
        text_config=decoder(2048, 8192, 24, 16, 8, 92_553) | LLAMA,
        vision_config=vit(1024, 24, 16) | {"image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True},
        **UNTIED,
    ),
    "deepseek-vl-1.3b": DeepseekVLConfig(
        text_config=decoder(2048, 5504, 24, 16, 16, 102_400) | LLAMA,
        vision_config=vit(1024, 24, 16) | {"image_size": 384, "patch_size": 16},
        **UNTIED,
    ),
    "Qwen2-VL-7B": qwen(3584, 18_944, 28, 4, 152_064, tied=False),
    "Llama-3.2-11B-Vision": MllamaConfig(
        text_config=decoder(4096, 14_336, 40, 32, 8, 128_256)
        | {"cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]}
        | UNTIED,
        vision_config=vit(1280, 32, 16)
        | {"num_global_layers": 8, "vision_output_dim": 7680, "image_size": 560, "patch_size": 14, "max_num_tiles": 4}
        | {"intermediate_layers_indices": [3, 7, 15, 23, 30]},
        **UNTIED,
    ),
}
WITH_LORA = ("Qwen2-VL-7B", "Llama-3.2-11B-Vision")


@dataclass(frozen=True)
class DataSet:
    """The paper's counts (its table 1), and how an item is shown: the preset's bounds."""

    users: int
    items: int
    interactions: int
    words: int  # tokens of an item
    image_pixels: int


DATA_SETS = {
    "Amazon": DataSet(993_087, 301_312, 8_813_442, 128, 112 * 112),
    "PixelRec": DataSet(50_000, 82_864, 989_476, 96, 84 * 84),
    "MovieLens": DataSet(6_040, 3_706, 1_000_209, 12, 84 * 84),
}


@dataclass(frozen=True)
class Cost:
    """FLOPs of one backbone on one data set; the first three are ours."""

    item_tokens: float
    finetune: float
    embed: float
    dueg: float
    reencoding: float  # instead of all three


def cost(size: Size, data: DataSet, lora: bool) -> Cost:
    """The sums of `molar doctor` for the paper's setting."""
    params, counts = _setting(data, lora), _counts(data)
    tune, embed = work.finetune_mirm(params, counts, size), work.embed_items(params, counts, size)
    dueg = work.train_dueg(params, counts, size)
    forward = embed.flops / data.items
    targets = counts.training - counts.users
    windows = max(counts.users, math.ceil(targets / HISTORY))
    encoded = 2 * (targets + windows)  # the items of each window, and as many negatives
    vision = 2 * size.vision * size.patches
    trained = 2 * (forward - vision) + vision if lora else 3 * forward  # by LoRA no gradient of the weights is taken
    again = EPOCHS * (trained * encoded + forward * data.items)  # and all once to validate
    tokens = (forward - vision) / 2
    return Cost(tokens / size.decoder, tune.flops, embed.flops, dueg.flops, again + dueg.flops)


def _setting(data: DataSet, lora: bool) -> Params:
    params = load_params()
    mirm, dueg = params.finetune_mirm, params.train_dueg
    kinds = ("image_text", "attributes", "behaviour")
    tasks: dict[str, float] = dict.fromkeys(kinds, EXAMPLES // 3) | {"modalities": 0}
    tasks |= {"behaviour_history": BEHAVIOUR_HISTORY}
    answers = {kind: Objective(answer=1.0, contrast=0.0) for kind in kinds}
    tasks |= {"image_text_with_text": 0.0, "attributes_with_image": 0.0, "behaviour_with_image": 1.0}
    shown = {"image_pixels": data.image_pixels, "max_text_tokens": data.words, "modality": "text+image"}
    tuning = {"tuning": "lora" if lora else "full", "train_vision": True, "precision": "bfloat16"}
    steps: dict[str, Any] = {"batch_size": 1, "steps": EXAMPLES, "tasks": mirm.tasks.model_copy(update=tasks)}
    steps |= {"objectives": mirm.objectives.model_copy(update=answers)}
    training = {"max_epochs": EPOCHS, "batch_size": BATCH, "batch_of": "windows"}
    update = {
        "protocol": params.protocol.model_copy(update={"max_history": HISTORY}),
        "finetune_mirm": mirm.model_copy(update=shown | tuning | steps),
        "embed_items": params.embed_items.model_copy(update={"modality": "text+image", "precision": "bfloat16"}),
        "train_dueg": dueg.model_copy(update={"model": "llm", "training": dueg.training.model_copy(update=training)}),
    }
    return params.model_copy(update=update)


def _counts(data: DataSet) -> Counts:
    """Leave one out, twice, of every user."""
    return Counts(
        items=data.items,
        warm=data.items,
        pictured=1.0,
        users=data.users,
        interactions=data.interactions,
        training=data.interactions - 2 * data.users,
        word_tokens=np.array([float(data.words)]),
        bytes=0,
    )


def sizes() -> Iterator[str]:
    """Lines of Markdown: the backbones."""
    yield "| backbone | parameters | decoder | vision | tokens of a picture of 112 x 112 |"
    yield "|---|---|---|---|---|"
    for name, config in BACKBONES.items():
        size = sized(config, 112 * 112)
        parts = " | ".join(f"{count / 1e9:.2f} B" for count in (size.total, size.decoder, size.vision))
        yield f"| {name} | {parts} | {size.picture_tokens} |"


def costs(rate: float) -> Iterator[str]:
    """Lines of Markdown: each backbone on each data set; `rate` is the GPU's, FLOPs a second."""
    yield (
        "| data set | backbone | tokens an item, all items | fine-tune | embed once | train the DUEG | in all "
        "| re-encoding in every step | x | workers |"
    )
    yield "|" + "---|" * 10
    trains, embeds = TRAINING * rate, EMBEDDING * rate
    for title, data in DATA_SETS.items():
        for name, config in BACKBONES.items():
            found = cost(sized(config, data.image_pixels), data, lora=name in WITH_LORA)
            whole, again = (found.finetune + found.dueg) / trains + found.embed / embeds, found.reencoding / trains
            cells = [title, name, f"{found.item_tokens:,.0f}, {found.item_tokens * data.items / 1e6:,.1f} M"]
            cells += [_cell(found.finetune, trains), _cell(found.embed, embeds), _cell(found.dueg, trains)]
            cells += [f"**{_time(whole)}**", _cell(found.reencoding, trains), f"{again / whole:,.0f}"]
            cells += [str(math.ceil(PICTURE_SECONDS * data.items / (found.embed / embeds)))]
            yield "| " + " | ".join(cells) + " |"


def _cell(flops: float, rate: float) -> str:
    return f"{_time(flops / rate)} ({_short(flops / 1e18)})"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{_short(seconds / length)} {unit}"
    return f"{_short(seconds)} s"


def _short(number: float) -> str:
    """Two digits: these are estimates."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def main(gpu: Annotated[str, typer.Option(help=f"One of {', '.join(GPUS)}.")] = "h100") -> None:
    """Print the table."""
    if gpu not in GPUS:
        raise typer.BadParameter(f"{gpu}: choose {' or '.join(GPUS)}")
    name, rate = GPUS[gpu]
    print(f"One {name}: {EMBEDDING:.0%} of {rate / 1e12:,.0f} TFLOPs in embedding, {TRAINING:.0%} in training.\n")
    print("\n".join([*sizes(), "", *costs(rate)]))


if __name__ == "__main__":
    typer.run(main)
