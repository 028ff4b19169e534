"""Open a published encoder by its param: a local folder or a hub id, through transformers' `AutoModel`.

Promise: no remote code, an explicit dtype (a config's own would win otherwise), and no weight that the checkpoint does
not hold: `AutoModel` would draw a missing pooling layer at random and go on. Whatever is wrong is one line that
names the param.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedModel

from pipeline.errors import MolarError
from pipeline.mirm import cache
from pipeline.mirm.backbone import ADVICE, UNREADABLE, first_line, locate, open_weights
from pipeline.mirm.folder import digest_of

Kind = Literal["text", "image"]
EXAMPLES = {"text": "google-bert/bert-base-uncased", "image": "google/vit-base-patch16-224-in21k"}
INPUTS = {"text": "input_ids", "image": "pixel_values"}


@dataclass(frozen=True)
class Checkpoint:
    """Where an encoder's files are, checked to be of the right kind; `load` opens its weights."""

    kind: Kind
    source: str | Path
    revision: str | None
    config: Any
    name: dict[str, str]  # by content: {"sha256": ...}, or {"hub": ..., "revision": ...}

    @property
    def key(self) -> str:
        """The param that names it."""
        return f"embed_items.{self.kind}_encoder.model"

    def scope(self, pooling: str, precision: str, **more: str) -> str:
        """Name of the cache of its vectors: see `cache.scope`."""
        return cache.scope(
            encoder=self.kind,
            model=self.name,
            pooling=pooling,
            precision=precision,
            torch=torch.__version__.split("+")[0],
            transformers=transformers.__version__,
            **more,
        )

    def load(self, precision: str, with_pooler: bool, device: torch.device) -> PreTrainedModel:
        """The weights, in evaluation mode. Raises MolarError: the checkpoint lacks some, a pooling layer if asked."""
        try:
            model, lacking = open_weights(AutoModel, self.source, precision, self.revision)
        except UNREADABLE as error:
            raise unreadable(self, "weights", error) from None
        if used := [name for name in lacking if with_pooler or "pooler" not in name]:
            raise MolarError(f"{self.key}: {self.source} lacks the weights {', '.join(used[:3])} of its model")
        return model.to(device).eval()


def find(kind: Kind, model: str | None, revision: str | None) -> Checkpoint:
    """The checkpoint that params name. Raises MolarError: no such folder or hub id, or of another kind."""
    key = f"embed_items.{kind}_encoder.model"
    assert model, "params refuse an encoder without a model"
    source = locate(model, key, f"a local folder, or a hub id such as {EXAMPLES[kind]}")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError):
        what = f"folder {source}: holds no readable config.json" if isinstance(source, Path) else f"{source}: not found"
        raise MolarError(f"{key}: {what}: {ADVICE}") from None
    cls = MODEL_MAPPING.get(type(config), None)
    one = cls[0] if isinstance(cls, tuple) else cls
    if one is None or one.main_input_name != INPUTS[kind] or config.is_encoder_decoder or takes_both(config):
        article = "an image" if kind == "image" else "a text"
        raise MolarError(
            f"{key}: {source} is no {kind} encoder (its family is {config.model_type!r}): choose {article} model such "
            f"as {EXAMPLES[kind]}"
        )
    if isinstance(source, Path):
        name = {"sha256": digest_of(source)}
    else:  # the commit that a branch's name, or no revision at all, stands for today
        name = {"hub": source, "revision": getattr(config, "_commit_hash", None) or revision or ""}
    return Checkpoint(kind, source, revision, config, name)


def takes_both(config: Any) -> bool:
    """CLIP and its like: two towers behind one model."""
    return hasattr(config, "vision_config") and hasattr(config, "text_config")


def unreadable(checkpoint: Checkpoint, what: str, error: Exception) -> MolarError:
    """A part of a checkpoint that transformers refuses, in the first line of its own words."""
    return MolarError(f"{checkpoint.key}: {checkpoint.source} has no readable {what} ({first_line(error)})")
