"""A new item through the frozen content encoders is what `embed_items` made of its twin; else it is refused."""

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.encoders.embed import embed_content
from pipeline.mirm.shards import conditioned, write_conditioning, write_embeddings
from pipeline.serving.content import Content, One, one_of
from tests.catalog.shop import ingest_params, png, refusal
from tests.encoders.test_content import CPU, params, patchy_shop


@pytest.fixture
def shop():
    return patchy_shop()


def content(shop, encoder, folder, monkeypatch):
    """The embedder of a run whose data/embeddings hold the shop, halves of a float each."""
    monkeypatch.setenv("MOLAR_CACHE", str(folder / "cache"))
    asked = params(encoder, dtype="float16")
    rows_ND = embed_content(shop, asked, CPU).embeddings_ND
    with artifacts.write(folder / "embeddings") as out:
        write_embeddings(out, rows_ND, "float16", 8)
        write_conditioning(out, rows_ND.mean(axis=0), np.eye(rows_ND.shape[1]))
    stored = artifacts.read(folder / "embeddings", "embed_items")
    return Content(
        asked, ingest_params(folder), artifacts.Artifact(folder / "mirm", "finetune_mirm"), stored, "cpu"
    ), stored


@pytest.mark.parametrize("encoder", ["text", "image", "text+image"])
def test_a_twin_gets_the_features_of_its_twin_with_gaps_or_without(shop, encoder, tmp_path, monkeypatch):
    embedder, stored = content(shop, encoder, tmp_path, monkeypatch)
    known_NK = conditioned(stored)
    for number in (3, 5, 9):  # whole, without words, without a picture
        twin = one_of(shop, number)
        features_K = embedder.features(twin, one_of(shop, 0), 0)
        assert features_K.dtype == np.float32 and np.allclose(features_K, known_NK[number], atol=2e-3)


def test_what_the_encoder_does_not_read_is_refused(shop, tmp_path, monkeypatch):
    texts, _ = content(shop, "text", tmp_path / "text", monkeypatch)
    images, _ = content(shop, "image", tmp_path / "image", monkeypatch)
    worded, pictured = One("n", "lamp", None, {}, None), One("n", None, None, {}, png())
    texts.refuse(worded)
    images.refuse(pictured)
    assert "reads words alone (embed_items.encoder = 'text')" in refusal(lambda: texts.refuse(pictured))
    assert "(embed_items.encoder = 'image'): give the item a picture" in refusal(lambda: images.refuse(worded))
    assert "is not what" in refusal(lambda: texts.features(worded, one_of(shop, 6), 0))
