"""The tiny backbone is a published checkpoint in all but size: same layout, same path, same bytes every time."""

import hashlib
import json

import numpy as np
from transformers import AutoConfig, AutoModelForImageTextToText

from pipeline.mirm.backbone import EMBEDDING_TOKEN, family_of
from pipeline.mirm.folder import save_mirm
from pipeline.mirm.tiny import build_tiny
from tests.mirm.shop import Shop, backbone, recipe


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def build(directory, seed=0):
    params = recipe()
    return build_tiny(Shop(), np.arange(14), params.instruction, params.tiny, seed, directory)


def test_the_same_catalogue_and_seed_build_the_same_bytes_anywhere(tmp_path):
    first, second = build(tmp_path / "here"), build(tmp_path / "there")
    assert digests(first) == digests(second)
    assert digests(first)["model.safetensors"] != digests(build(tmp_path / "other", seed=1))["model.safetensors"]


def test_plain_transformers_opens_the_folder(tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(build(tmp_path))
    assert model.config.model_type == "qwen2_vl" == family_of(tmp_path)


def test_the_tokenizer_has_not_read_cold_items(tmp_path):
    shop = Shop()
    build(tmp_path / "a")
    shop.titles[17] = "zyzzyva zyzzyva zyzzyva zyzzyva"
    params = recipe()
    build_tiny(shop, np.arange(14), params.instruction, params.tiny, 0, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_saved_mirm_reopens_and_names_no_path(tmp_path):
    mirm = backbone()
    save_mirm(mirm, tmp_path)
    for path in tmp_path.glob("*.json"):
        assert not {"/tmp", "is_local", "_name_or_path"} & set(path.read_text().replace('"', " ").split()), path
        assert "/tmp" not in path.read_text(), path
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    token_id = mirm.settings.embedding_token_id
    assert model.get_input_embeddings().weight.shape[0] > token_id
    assert json.loads((tmp_path / "molar.json").read_text())["embedding_token_id"] == token_id
    assert AutoConfig.from_pretrained(tmp_path).model_type == "qwen2_vl"


def test_an_earlier_mirm_keeps_its_embedding_token(tmp_path):
    save_mirm(backbone(), tmp_path)
    from pipeline.mirm.folder import open_backbone

    again = open_backbone(recipe(backbone=str(tmp_path), tuning="none"), None, seed=99)
    first = backbone()
    token_id = first.settings.embedding_token_id
    assert again.settings.embedding_token_id == token_id
    assert again.processor.tokenizer.convert_tokens_to_ids(EMBEDDING_TOKEN) == token_id
    rows = (m.model.get_input_embeddings().weight[token_id] for m in (first, again))
    assert next(rows).equal(next(rows))
    assert set(again.settings.backbone) == {"sha256"}
