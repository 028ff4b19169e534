"""A backbone's size is known from its configuration, before any weight is there."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.doctor import model
from pipeline.errors import MolarError
from pipeline.mirm.backbone import load_model
from tests.mirm.shop import _built, recipe


def test_the_size_equals_the_models_own(tmp_path: Path) -> None:
    built = _built(56 * 56)
    (tmp_path / "config.json").write_bytes((built / "config.json").read_bytes())  # and no weights
    size, true = model.size_of(recipe(), tmp_path), load_model(built, "float32")
    assert size.total == sum(p.numel() for p in true.parameters())
    assert size.words == true.get_input_embeddings().weight.numel()
    assert size.total == size.decoder + size.words + size.vision
    assert (size.layers, size.hidden, size.mlp) == (1, 32, 32)
    assert (size.picture_tokens, size.patches) == (4, 16)


def test_the_tiny_backbone_is_sized_before_its_tokenizer_is_trained() -> None:
    size = model.size_of(recipe(), None)
    assert size.words == 320 * 32
    assert size.decoder == model.size_of(recipe(), _built(56 * 56)).decoder


FAMILIES = {
    "qwen, 28 pixels a token": (dict(patch_size=14, spatial_merge_size=2), None, (9, 36)),
    "internvl, no more than one tile": (dict(patch_size=[14, 14], image_size=[56, 56]), 0.5, (4, 16)),
    "deepseek, one size": (dict(patch_size=16, image_size=384), None, (576, 576)),
    "mllama, all tiles from the side": (dict(patch_size=14, image_size=560, max_num_tiles=4), None, (1, 6400)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_has_the_tokens_that_its_family_gives_it(family: str) -> None:
    vision, ratio, expected = FAMILIES[family]
    config = SimpleNamespace(vision_config=SimpleNamespace(**vision), downsample_ratio=ratio)
    assert model.picture(config, 84 * 84) == expected


def test_a_sharded_checkpoint_names_what_it_lacks(tmp_path: Path) -> None:
    assert model.absent_weights(tmp_path) == ["model.safetensors"]
    (tmp_path / "model-1.safetensors").touch()
    assert model.absent_weights(tmp_path) == []
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    (tmp_path / model.INDEX).write_text(json.dumps({"weight_map": shards}))
    assert model.absent_weights(tmp_path) == ["model-2.safetensors"]


def test_a_hub_id_is_looked_up_in_the_local_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def cached(name: str, file: str, revision: str | None) -> str | None:
        asked.append((name, file, revision))
        return str(tmp_path / file) if name == "org/here" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert model.found("org/here", "abc") == tmp_path
    assert model.found("org/elsewhere", None) is None
    assert asked == [("org/here", "config.json", "abc"), ("org/elsewhere", "config.json", None)]
    assert model.found(str(tmp_path), None) == tmp_path
    with pytest.raises(MolarError, match="no such folder"):
        model.found("./nowhere", None)
