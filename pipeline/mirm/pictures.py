"""Item pictures as a backbone sees them: placeholder tokens, and tensors for its vision tower.

Each picture goes through the backbone's own processor once, many in one call, and is then kept, up to a bound in bytes:
fine-tuning meets the same picture dozens of times, and a call costs as much as a tiny model's whole step. A picture
gets the same tensors whichever pictures share its call; so `ahead.py` may let other processes make the calls.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from PIL import Image
from torch import Tensor
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from pipeline.catalog.catalogue import Items
from pipeline.errors import MolarError
from pipeline.mirm.folder import Mirm

CACHE_BYTES = 512 * 2**20
TOGETHER = 32  # pictures in one call of the processor
PATTERNS_KEPT = 4096  # of M-RoPE positions, some kilobytes each
NOT_FOR_MODELS = ("num_tiles", "num_patches")  # what a processor counts its placeholders by

Form = tuple[object, ...]


@dataclass(frozen=True)
class Picture:
    """Placeholder token ids, 1 at those that the vision tower fills in, and one picture's tensors."""

    ids: list[int]
    types: list[int] | None  # None: the family does not ask for token types
    tensors: dict[str, Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @cached_property
    def form(self) -> Form:
        """What decides, but for the pixels, how a model reads it."""
        return form_of(self.tensors)


@dataclass(frozen=True)
class Call:
    """What one call of the processor made of P pictures."""

    ids: list[list[int]]
    types: list[list[int] | None]
    tensors: dict[str, Tensor]  # of all of them, in one piece: few objects to hand from process to process

    def apart(self) -> list[Picture]:
        """Each on its own, in memory of its own."""
        parts = zip(self.ids, self.types, _apart(self.tensors, len(self.ids)), strict=True)
        return [Picture(ids, types, {name: t.clone() for name, t in own.items()}) for ids, types, own in parts]


class Pictures:
    """`pictures[item]` -> Picture, of items that have one."""

    def __init__(self, items: Items, mirm: Mirm) -> None:
        processor, family = mirm.processor, mirm.settings.family
        self.items, self.family = items, family
        self.positions = Positions(mirm.model.model.get_rope_index) if family.startswith("qwen") else None
        self.image_token_id: int = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        self._processor = processor
        in_qwen = family.startswith("qwen")
        self._markup = f"<|vision_start|>{processor.image_token}<|vision_end|>" if in_qwen else processor.image_token
        self._images_kwargs = {"crop_to_patches": False} if family == "internvl" else {}  # its class default is True
        self._places_of: dict[Form, tuple[list[int], list[int] | None]] = {}
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._kept_bytes = 0

    def __getitem__(self, item: int) -> Picture:
        if item not in self._kept:
            self.prepare([item])
        self._kept.move_to_end(item)
        return self._kept[item]

    def prepare(self, items: Iterable[int]) -> None:
        """Process together what a batch will ask for: half of a picture's cost is the call."""
        missing = list(dict.fromkeys(item for item in items if item not in self._kept))
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            self.keep(some, self.made(some))

    def made(self, items: Sequence[int]) -> Call:
        """Their pictures, read and through the processor. Raises MolarError for one that cannot be decoded."""
        return self.process([self._decoded(item) for item in items])

    def keep(self, items: Sequence[int], call: Call) -> None:
        """Hold what was made of these items' pictures; the ones longest unused make room."""
        for item, picture in zip(items, call.apart(), strict=True):
            if item not in self._kept:
                self._kept_bytes += picture.size
            self._kept[item] = picture
        while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size

    def _decoded(self, item: int) -> Image.Image:
        try:
            image = self.items.image(item)
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # what Pillow's decoders raise
            why = " ".join(str(error).split())
            raise MolarError(
                f"the picture of item {self.items.item_ids[item]!r} cannot be decoded ({why}): "
                "run `dvc repro --force --single-item ingest`"
            ) from None
        assert image is not None, f"item {item} has no picture"  # prompts only show pictures that exist
        return image

    def process(self, images: Sequence[Image.Image]) -> Call:
        """Pictures through the backbone's processor, in one call."""
        encoded = self._processor.image_processor(
            [[image] for image in images], return_tensors="pt", **self._images_kwargs
        )
        tensors = {name: tensor for name, tensor in encoded.items() if name not in NOT_FOR_MODELS}
        of_picture = _apart(tensors, len(images))
        places = [self._places(image, form_of(own)) for image, own in zip(images, of_picture, strict=True)]
        return Call([ids for ids, _ in places], [types for _, types in places], tensors)

    def _places(self, image: Image.Image, form: Form) -> tuple[list[int], list[int] | None]:
        """Placeholder ids and types, asked of the whole processor once for each form: its words take a third of a
        call's time, and say the same wherever the tensors are alike."""
        if form not in self._places_of:
            encoded = self._processor(
                text=[self._markup],
                images=[[image]],
                return_tensors="pt",
                text_kwargs={"add_special_tokens": False},
                images_kwargs=self._images_kwargs,
            )
            # Mllama's processor opens whatever it is given with a BOS, and a picture is no beginning.
            bos = self._processor.tokenizer.bos_token_id
            real_L = encoded["input_ids"][0] != (-1 if bos is None else bos)
            types_1L = encoded.get("mm_token_type_ids")
            types = None if types_1L is None else types_1L[0][real_L].tolist()
            self._places_of[form] = encoded["input_ids"][0][real_L].tolist(), types
        return self._places_of[form]


class Positions:
    """M-RoPE positions of the Qwen families, by each family's own rule.

    The families work them out row by row in every forward pass, a third of a tiny model's; few rows differ in
    pattern, so each pattern is worked out once.
    """

    def __init__(self, rule: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self._rule = rule
        self._of_pattern = lru_cache(PATTERNS_KEPT)(self._compute)

    def __call__(self, types: Sequence[list[int]], shown: Sequence[Sequence[Picture]], length: int) -> Tensor:
        """int64 (3, B, length), zero on padding; `types` holds each row's token types, answer included."""
        positions_3BL = torch.zeros(3, len(types), length, dtype=torch.int64)
        for row, (row_types, pictures) in enumerate(zip(types, shown, strict=True)):
            grids = tuple(tuple(picture.tensors["image_grid_thw"][0].tolist()) for picture in pictures)
            positions_3BL[:, row, : len(row_types)] = self._of_pattern(tuple(row_types), grids)
        return positions_3BL

    def _compute(self, types: tuple[int, ...], grids: tuple[tuple[int, ...], ...]) -> Tensor:
        types_1L = torch.tensor([types])
        grids_P3 = torch.tensor(grids) if grids else None
        return self._rule(torch.zeros_like(types_1L), mm_token_type_ids=types_1L, image_grid_thw=grids_P3)[0][:, 0]


def _apart(tensors: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Views of the tensors of `count` pictures as those of each: one row each, but for the Qwen families' patches."""
    rows = {name: tensor.split(1) for name, tensor in tensors.items()}
    if "image_grid_thw" in tensors:
        patches = tensors["image_grid_thw"].prod(dim=1).tolist()
        rows["pixel_values"] = tensors["pixel_values"].split(patches)
    return [{name: of_picture[i] for name, of_picture in rows.items()} for i in range(count)]


def form_of(tensors: dict[str, Tensor]) -> Form:
    """The shapes of a picture's tensors; of the small ones that tell a tower how to read it, what they say as well."""
    return tuple(
        (name, *tensor.shape, *(() if tensor.is_floating_point() else tensor.flatten().tolist()))
        for name, tensor in sorted(tensors.items())
    )


def stack(shown: Sequence[Sequence[Picture]], family: str, image_token_id: int, ids_BL: Tensor) -> dict[str, Tensor]:
    """The vision tower's inputs for B rows with any number of pictures each; empty if no row has one."""
    flat = [picture for row in shown for picture in row]
    if not flat:
        return {}
    if family == "mllama":
        return _stack_by_row(shown, image_token_id, ids_BL)
    return {name: torch.cat([picture.tensors[name] for picture in flat]) for name in flat[0].tensors}


def _stack_by_row(shown: Sequence[Sequence[Picture]], image_token_id: int, ids_BL: Tensor) -> dict[str, Tensor]:
    """Mllama wants pictures by row, (B, pictures, tiles, ...), and a mask that says which token sees which tile."""
    most = max(len(row) for row in shown)
    example = next(picture for row in shown for picture in row).tensors
    batch = {name: tensor.new_zeros((len(shown), most, *tensor.shape[2:])) for name, tensor in example.items()}
    batch["aspect_ratio_mask"][..., 0] = 1  # Mllama's own padding: a missing picture has one empty tile
    for row, pictures in enumerate(shown):
        for position, picture in enumerate(pictures):
            for name, tensor in picture.tensors.items():
                batch[name][row, position] = tensor[0, 0]
    mask = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(ids, image_token_id) for ids in ids_BL.tolist()],
        num_tiles=[[int(picture.tensors["aspect_ratio_mask"].sum()) for picture in row] for row in shown],
        max_num_tiles=example["pixel_values"].shape[2],
        length=ids_BL.shape[1],
    )
    return batch | {"cross_attention_mask": torch.as_tensor(mask)}
