"""A new item through the frozen content encoders is what `embed_items` made of its twin; else it is refused."""

import io

import numpy as np
import pytest
from PIL import Image
from transformers import ConvNextConfig, ConvNextModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from pipeline import artifacts
from pipeline.encoders.embed import embed_content
from pipeline.mirm.shards import conditioned, write_conditioning, write_embeddings
from pipeline.params.embed_items import ImageEncoder
from pipeline.serving.content import Content, One, one_of
from tests.catalog.shop import ingest_params, png, refusal
from tests.encoders.test_content import CPU, params, patchy_shop


@pytest.fixture
def shop():
    return patchy_shop()


def content(shop, encoder, folder, monkeypatch, **changed):
    """The embedder of a run whose data/embeddings hold the shop, halves of a float each."""
    monkeypatch.setenv("MOLAR_CACHE", str(folder / "cache"))
    asked = params(encoder, dtype="float16").model_copy(update=changed)
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


def convnext(folder, widths):
    """An encoder whose config has no `hidden_size`."""
    shape = {"hidden_sizes": widths, "depths": [1, 1], "num_stages": 2}
    ConvNextModel(ConvNextConfig(num_channels=3, image_size=32, **shape)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return ImageEncoder(model=str(folder), revision=None, pooling="pooler")


def test_a_twin_without_a_picture_has_as_many_zeros_whatever_the_config_calls_its_width(shop, tmp_path, monkeypatch):
    embedder, stored = content(
        shop, "text+image", tmp_path, monkeypatch, image_encoder=convnext(tmp_path / "net", [4, 8])
    )
    known_NK = conditioned(stored)
    for number in (3, 5, 9):  # whole, without words, without a picture
        features_K = embedder.features(one_of(shop, number), one_of(shop, 0), 0)
        assert np.allclose(features_K, known_NK[number], atol=2e-3)


def test_an_item_with_what_the_example_lacks_shows_another_encoder(shop, tmp_path, monkeypatch):
    embedder, _ = content(shop, "text+image", tmp_path, monkeypatch, image_encoder=convnext(tmp_path / "net", [4, 8]))
    convnext(tmp_path / "net", [4, 6])
    told = refusal(lambda: embedder.features(one_of(shop, 3), one_of(shop, 9), 9))
    assert told.startswith(f"add_item: item {shop.item_ids[3]!r} has another width than what {tmp_path / 'embeddings'}")


def test_a_picture_that_breaks_off_is_refused_in_the_same_words_as_bytes_and_opened(shop, tmp_path, monkeypatch):
    embedder, _ = content(shop, "image", tmp_path, monkeypatch)
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, "PNG")
    cut = buffer.getvalue()[:2000]
    for given, name in ((cut, "the picture given (2,000 bytes)"), (Image.open(io.BytesIO(cut)), "the picture given")):
        told = refusal(lambda given=given: embedder.picture(given))
        assert told == f"add_item: {name} cannot be used: picture is truncated or damaged"
    whole = Image.open(io.BytesIO(buffer.getvalue()))
    assert embedder.picture(whole) == embedder.picture(buffer.getvalue())


def test_a_name_too_long_for_any_file_is_no_picture_file(shop, tmp_path, monkeypatch):
    embedder, _ = content(shop, "image", tmp_path, monkeypatch)
    told = refusal(lambda: embedder.picture("a" * 5000))
    assert told == f"add_item: there is no picture file {'a' * 200}...: give a path, bytes, a PIL image or None"
