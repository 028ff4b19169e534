"""What `data/mirm/` holds: a `save_pretrained` folder that plain transformers opens, and `molar.json` beside it.

`molar.json` is all that `embed_items` needs besides the checkpoint itself: how a prompt is made. It names the
backbone by content (digest of a local folder's files) or by hub id and revision, never by a path.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, ProcessorMixin

from pipeline.artifacts import Artifact, sha256, write_json
from pipeline.mirm.backbone import add_embedding_token, family_of, load_model, load_processor, locate
from pipeline.params.finetune_mirm import FinetuneMirm

SETTINGS = "molar.json"
LOSSES, HELD_OUT = "losses.tsv", "held_out.tsv"  # of its fine-tuning (losses.py); no vector depends on them

Modality = Literal["text", "image", "text+image"]


@dataclass(frozen=True)
class Settings:
    """How items become prompts; whoever embeds must do as whoever fine-tuned did."""

    backbone: dict[str, str | None]  # {"tiny": None}, {"sha256": ...} or {"hub": ..., "revision": ...}
    family: str
    instruction: str
    modality: Modality
    max_text_tokens: int
    image_pixels: int
    embedding_token_id: int


@dataclass(frozen=True)
class Mirm:
    model: PreTrainedModel
    processor: ProcessorMixin
    settings: Settings


def open_backbone(params: FinetuneMirm, tiny: Path | None, seed: int) -> Mirm:
    """The backbone that params name (`tiny`: the folder it was built into), embedding token added.

    Weights that will be trained are float32 whatever the precision: bfloat16 then means autocast.
    Raises MolarError: no such folder or hub id, unsupported family, a file or weight that is absent or damaged.
    """
    source = tiny or locate(params.backbone)
    family = family_of(source, params.revision)
    processor = load_processor(source, params.image_pixels, params.revision)
    model = load_model(source, params.precision if params.tuning == "none" else "float32", params.revision)
    return Mirm(
        model,
        processor,
        Settings(
            backbone=_name(source, params.revision, tiny is not None),
            family=family,
            instruction=params.instruction,
            modality=params.modality,
            max_text_tokens=params.max_text_tokens,
            image_pixels=params.image_pixels,
            embedding_token_id=add_embedding_token(model, processor, seed),
        ),
    )


def _name(source: str | Path, revision: str | None, is_tiny: bool) -> dict[str, str | None]:
    if is_tiny:
        return {"tiny": None}
    if isinstance(source, Path):
        return {"sha256": digest_of(source)}
    return {"hub": source, "revision": revision}


def digest_of(folder: Path) -> str:
    """Digest of a folder's files, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def save_mirm(mirm: Mirm, directory: Path) -> None:
    """Checkpoint, processor and settings; the same MIRM twice gives the same bytes."""
    for where_from in ("is_local", "local_files_only"):  # how the tokenizer was found is not part of it
        mirm.processor.tokenizer.init_kwargs.pop(where_from, None)
    mirm.processor.tokenizer.backend_tokenizer.no_padding()  # a call with padding leaves it set, and it would be saved
    mirm.processor.tokenizer.backend_tokenizer.no_truncation()
    mirm.model.save_pretrained(directory)
    mirm.processor.save_pretrained(directory)
    write_json(directory / SETTINGS, asdict(mirm.settings))


def load_mirm(artifact: Artifact, precision: str) -> Mirm:
    """Read back what `save_mirm` wrote. Raises MolarError for a missing or corrupted file."""
    directory = artifact.verified()
    fields: dict[str, Any] = json.loads((directory / SETTINGS).read_text("utf-8"))
    settings = Settings(**fields)
    return Mirm(load_model(directory, precision), load_processor(directory, settings.image_pixels), settings)
