"""How near to a GPU's peak do embedding and fine-tuning run? Qwen2-VL-2B's geometry with random weights, bfloat16.

    python -m benchmarks.gpu                                  2,048 items, 100 steps
    python -m benchmarks.gpu --backbone Qwen2-VL-7B --tuning lora
    python -m benchmarks.gpu --backbone tiny --items 64 --steps 2 --device cpu     does the script run?

Items are drawn: noise of 224 x 224 pixels as JPEG and sixty words. Weights are random, since speed does not depend on
them. FLOPs are those of the model on real tokens, padding not counted: 2 a parameter and token forth, 6 forth and back
(4 where LoRA leaves the weights alone). The peak that they are compared with is `--tflops` (H100 SXM: 989, A100: 312).
No GPU has been at hand to run it on: what it prints on a CPU only shows that it runs.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from transformers import Qwen2VLForConditionalGeneration

from benchmarks.cost import BACKBONES
from pipeline.catalog.catalogue import Sequences
from pipeline.doctor.model import Size, sized
from pipeline.mirm.batch import IGNORED
from pipeline.mirm.embed import Encoder
from pipeline.mirm.finetune import finetune
from pipeline.mirm.folder import Mirm, open_backbone
from pipeline.mirm.objectives import Steps
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Tasks
from pipeline.mirm.tiny import build_tiny
from pipeline.params import Params, load_params

SIDE, WORDS, LEXICON = 224, 60, 2000
TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


class Shelf:
    """Drawn items, as the catalogue's Items has them."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.item_ids = [f"i{i}" for i in range(count)]
        words = rng.integers(0, LEXICON, (count, WORDS))
        self.titles = [" ".join(f"w{w}" for w in row[:6]) for row in words]
        self.texts = [" ".join(f"w{w}" for w in row[6:]) for row in words]
        self.captions = self.summaries = [f"w{row[0]} ; w{row[1]}" for row in words]
        self.attributes: list[dict[str, str]] = [{} for _ in words]
        self.has_image = np.ones(count, np.bool_)
        self._pixels = [rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8) for _ in range(16)]

    def __len__(self) -> int:
        return len(self.item_ids)

    def image_bytes(self, item: int) -> bytes:
        """A JPEG, made anew: what it costs stands for reading and decoding a real one."""
        buffer = io.BytesIO()
        Image.fromarray(self._pixels[item % len(self._pixels)]).save(buffer, "JPEG")
        return buffer.getvalue()

    def image(self, item: int) -> Image.Image:
        """The picture."""
        return Image.open(io.BytesIO(self.image_bytes(item))).convert("RGB")


def prepared(name: str, shelf: Any, params: Params, folder: Path, device: torch.device) -> tuple[Mirm, Size]:
    """The backbone's geometry around the tiny one's tokenizer and processor, weights drawn on the device."""
    recipe = params.finetune_mirm
    tiny = build_tiny(shelf, np.arange(len(shelf)), recipe.instruction, recipe.tiny, 0, folder / "backbone")
    mirm = open_backbone(recipe, tiny, 0)
    config = mirm.model.config
    if name != "tiny":
        own, config = config, BACKBONES[name]
        for field in TOKEN_IDS:
            setattr(config, field, getattr(own, field))
        config.vision_config.temporal_patch_size = own.vision_config.temporal_patch_size  # the tiny processor's
        dtype = torch.float32 if recipe.tuning != "none" else torch.bfloat16
        with torch.device(device):
            model = Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype)
        mirm = Mirm(model.eval(), mirm.processor, mirm.settings)
    return mirm, sized(config, recipe.image_pixels)


def measured(run: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """(seconds, GiB at the peak)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")


def embedding(mirm: Mirm, shelf: Any, size: Size, params: Params, device: torch.device, workers: int) -> list[str]:
    """A table row."""
    model = mirm.model.to(device, torch.bfloat16)
    half = Mirm(model, mirm.processor, mirm.settings)
    encoder = Encoder(half, shelf, "text+image", device, params.embed_items.batch_tokens, workers)
    pictures = Pictures(shelf, half)
    tokens = len(shelf) * (len(pictures[0].ids) - 1) + sum(
        len(Prompts(shelf, half.processor, half.settings).item(item)) for item in range(len(shelf))
    )
    encoder.encode(next(iter(encoder.batches([*range(32)]))))  # warm
    seconds, peak = measured(lambda: [encoder.encode(batch) for batch in encoder.batches()], device)
    flops = 2 * (size.decoder * tokens + size.vision * patches_of(pictures) * len(shelf))
    return ["embed", f"{len(shelf) / seconds:,.1f} items/s", f"{flops / seconds / 1e12:.2f}", f"{peak:.1f}"]


def tuning(mirm: Mirm, shelf: Any, size: Size, params: Params, device: torch.device, workers: int) -> list[str]:
    """A table row; the start and the end of training, and its checkpoints, are counted too."""
    recipe = params.finetune_mirm
    count = len(shelf)
    sequences = Sequences(
        user_ids=["u"],
        items=np.arange(count, dtype=np.int32),
        timestamps=np.arange(count),
        offsets=np.array([0, count]),
        train_end=np.array([count], np.int32),
        valid_end=np.array([count], np.int32),
        num_items=count,
        num_warm=count,
    )
    tasks = Tasks(shelf, sequences, Prompts(shelf, mirm.processor, mirm.settings), recipe, 0)
    steps = Steps(tasks, Pictures(shelf, mirm), mirm, recipe)
    forth, whole = (6, 6) if recipe.tuning == "full" else (4, 2)
    flops = 0.0
    for step in range(recipe.steps):
        for inputs, labels_BL in steps.given(step)["answers"][0]:
            tokens, answers = int(inputs["attention_mask"].sum()), int((labels_BL != IGNORED).sum())
            patches = len(inputs.get("pixel_values", ()))
            flops += forth * (size.decoder * tokens + size.words * answers) + whole * size.vision * patches
    with tempfile.TemporaryDirectory() as scratch:
        seconds, peak = measured(
            lambda: finetune(mirm, shelf, sequences, recipe, 0, Path(scratch), device, workers), device
        )
    return [
        f"fine-tune, {recipe.tuning}",
        f"{recipe.steps * recipe.batch_size / seconds:,.1f} examples/s",
        f"{flops / seconds / 1e12:.2f}",
        f"{peak:.1f}",
    ]


def patches_of(pictures: Pictures) -> int:
    """Of one picture in the vision tower."""
    return int(pictures[0].tensors["image_grid_thw"].prod())


def main(
    backbone: Annotated[str, typer.Option(help="tiny, Qwen2-VL-2B or Qwen2-VL-7B.")] = "Qwen2-VL-2B",
    items: int = 2048,
    steps: int = 100,
    batch_size: int = 64,
    batch_tokens: int = 65_536,
    how: Annotated[str, typer.Option("--tuning", help="full or lora.")] = "full",
    tflops: Annotated[float, typer.Option(help="The device's peak in bfloat16.")] = 989.0,
    workers: int = 8,
    device: str = "cuda",
) -> None:
    """Measure and print."""
    on, params = torch.device(device), load_params()
    recipe = params.finetune_mirm.model_copy(
        update={
            "tuning": how,
            "precision": "bfloat16",
            "image_pixels": SIDE * SIDE,
            "max_text_tokens": 128,
            "steps": steps,
            "batch_size": batch_size,
            "batch_tokens": batch_tokens,
            "tasks": params.finetune_mirm.tasks.model_copy(update={"behaviour": 0, "modalities": 0}),
            "objectives": params.finetune_mirm.objectives.model_copy(
                update={
                    kind: params.finetune_mirm.objectives.image_text.model_copy(update={"answer": 1.0, "contrast": 0.0})
                    for kind in ("image_text", "attributes", "behaviour")
                }
            ),
        }
    )
    params = params.model_copy(
        update={
            "finetune_mirm": recipe,
            "embed_items": params.embed_items.model_copy(update={"batch_tokens": batch_tokens}),
        }
    )
    shelf = Shelf(items)
    with tempfile.TemporaryDirectory() as folder:
        mirm, size = prepared(backbone, shelf, params, Path(folder), on)
        rows = [tuning(mirm, shelf, size, params, on, workers), embedding(mirm, shelf, size, params, on, workers)]
    name = torch.cuda.get_device_name(on) if on.type == "cuda" else "CPU"
    print(f"{backbone} ({size.total / 1e9:.2f} B parameters), bfloat16, {name}, {workers} workers a stage\n")
    print(f"| | speed | TFLOP/s | peak GiB | of {tflops:g} TFLOP/s |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} | {float(row[2]) / tflops:.1%} |")


if __name__ == "__main__":
    typer.run(main)
