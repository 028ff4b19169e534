"""A shop of a few drawn items for the MIRM's tests: catalogue, sequences and a backbone that builds in a moment."""

import io
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from PIL import Image

from pipeline.mirm.folder import Mirm, open_backbone
from pipeline.mirm.tiny import build_tiny
from pipeline.params.finetune_mirm import FinetuneMirm
from tests.recommender.worlds import sequences_of

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
KINDS, BRANDS = ("lamp", "chair"), ("alba", "bonto", "corvex")
NUM_ITEMS, NUM_WARM, NUM_COLD = 20, 16, 4
HELD_OUT = {14, 15}  # warm items that only validation and test know

RECIPE: dict[str, Any] = {
    "backbone": "tiny",
    "revision": None,
    "tuning": "full",
    "modality": "text+image",
    "instruction": "item ",
    "max_text_tokens": 24,
    "image_pixels": 56 * 56,
    "precision": "float32",
    "train_vision": True,
    "tasks": {
        "image_text": 40,
        "attributes": 30,
        "behaviour": 30,
        "modalities": 0,
        "image_text_with_text": 0.5,
        "attributes_with_image": 0.5,
        "behaviour_history": 2,
        "behaviour_tokens": 256,
        "behaviour_with_image": 0.5,
        "answer": "shuffled",
    },
    "objectives": {
        "image_text": {"answer": 1.0, "contrast": 0.0},
        "attributes": {"answer": 1.0, "contrast": 0.0},
        "behaviour": {"answer": 1.0, "contrast": 0.0},
        "contrast": 1.0,
        "temperature": 0.07,
    },
    "steps": 12,
    "batch_size": 4,
    "batch_tokens": 4096,
    "gradient_checkpointing": False,
    "held_out": 0.0,
    "learning_rate": 1e-3,
    "vision_learning_rate": 1e-3,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "warmup_steps": 2,
    "clip_norm": 1.0,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.1},
    "tiny": {
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "mlp": 32,
        "vocabulary": 320,
        "vision_dim": 16,
        "vision_layers": 1,
        "vision_heads": 2,
    },
}


def recipe(**changes: Any) -> FinetuneMirm:
    """RECIPE with changes; `tasks={...}` and `objectives={...}` change those alone."""
    merged = {
        key: {**RECIPE[key], **changes[key]} if key in ("tasks", "objectives") else value
        for key, value in changes.items()
    }
    return FinetuneMirm(**{**RECIPE, **merged})


class Shop:
    """Stands for catalogue.Items; every field may be edited."""

    def __init__(self) -> None:
        numbers = range(NUM_ITEMS)
        colours = [list(COLOURS)[i % 3] for i in numbers]
        self.item_ids = [f"i{i}" for i in numbers]
        self.titles: list[str | None] = [f"{KINDS[i % 2]} number {i}" for i in numbers]
        self.texts: list[str | None] = [None] * NUM_ITEMS
        self.captions: list[str | None] = [f"{colour} ; square" for colour in colours]
        self.summaries: list[str | None] = [KINDS[i % 2] for i in numbers]
        self.attributes = [{"brand": BRANDS[i % 3], "material": "oak"} for i in numbers]
        self.has_image = np.ones(NUM_ITEMS, np.bool_)
        # one size is wider, so that items differ in their number of image tokens
        self.pictures = [drawn(COLOURS[colour], (84 if i == 3 else 56, 56)) for i, colour in enumerate(colours)]

    def __len__(self) -> int:
        return len(self.item_ids)

    def image_bytes(self, idx: int) -> bytes | None:
        return self.pictures[idx] if self.has_image[idx] else None

    def image(self, idx: int) -> Image.Image | None:
        encoded = self.image_bytes(idx)
        return None if encoded is None else Image.open(io.BytesIO(encoded)).convert("RGB")

    def hide_picture(self, idx: int) -> None:
        self.has_image[idx] = False


def drawn(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    """A PNG of one colour with a white corner."""
    image = Image.new("RGB", size, colour)
    image.paste((255, 255, 255), (0, 0, 20, 20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def walks():
    """Users walk through items 0..13; each validation item is 14, each test item 15; 16..19 are cold."""
    return sequences_of([[(u + i) % 14 for i in range(3 + u % 4)] + [14, 15] for u in range(14)], NUM_ITEMS, NUM_WARM)


@cache
def _built(pixels: int) -> Path:
    directory = Path(mkdtemp())
    params = recipe(image_pixels=pixels)
    return build_tiny(Shop(), np.arange(14), params.instruction, params.tiny, 0, directory)  # type: ignore[arg-type]


def backbone(params: FinetuneMirm | None = None) -> Mirm:
    """A freshly opened tiny backbone; its folder is built once per test process."""
    params = params or recipe()
    return open_backbone(params, _built(params.image_pixels), seed=0)


def backbone_folder() -> Path:
    """The folder of `backbone()`: a checkpoint on disk as a user has one."""
    return _built(recipe().image_pixels)
