"""Content encoders: what plain transformers gives, whatever the neighbours; zeros for nothing; computed once."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel, CLIPConfig, ConvNextConfig, ConvNextModel, T5Config, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from pipeline.encoders.checkpoint import find
from pipeline.encoders.embed import embed_content
from pipeline.encoders.image import Pictures
from pipeline.encoders.text import Texts
from pipeline.errors import MolarError
from pipeline.params.embed_items import EmbedItems, ImageEncoder, TextEncoder
from tests.encoders.models import bert, vit
from tests.mirm.shop import NUM_ITEMS, Shop, drawn
from tests.mirm.test_embed import params as mirm_params

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))


def texts(shop, pooling="mean", max_tokens=24, batch_tokens=64):
    settings = TextEncoder(model=str(bert()), revision=None, pooling=pooling, max_tokens=max_tokens)
    return Texts(find("text", str(bert()), None), shop, settings, "float32", batch_tokens, CPU)


def pictures(shop, pooling="cls", folder=None, batch_tokens=64):
    folder = folder or vit()
    settings = ImageEncoder(model=str(folder), revision=None, pooling=pooling)
    return Pictures(find("image", str(folder), None), shop, settings, "float32", batch_tokens, CPU)


def params(encoder, text=None, image=None, **changes) -> EmbedItems:
    return mirm_params(
        encoder=encoder,
        text_encoder={"model": str(text or bert()), "revision": None, "pooling": "mean", "max_tokens": 24},
        image_encoder={"model": str(image or vit()), "revision": None, "pooling": "cls"},
        **changes,
    )


def run(shop, encoder, **changes):
    return embed_content(shop, params(encoder, **changes), CPU)


def patchy_shop():
    """Long and short words, pictures of their own, an item without words, items without a picture."""
    shop = Shop()
    for item in range(NUM_ITEMS):
        shop.pictures[item] = drawn((12 * item, 200 - 9 * item, 90), (56, 56))
    for item in (2, 9):
        shop.hide_picture(item)
    shop.texts[6] = "a long red lamp"
    shop.titles[5], shop.attributes[5] = None, {}
    return shop


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_is_what_a_plain_forward_gives(pooling):
    model, tokenizer = BertModel.from_pretrained(bert()), AutoTokenizer.from_pretrained(bert())
    inputs = tokenizer("lamp number 4 ; brand bonto ; material oak", return_tensors="pt")
    hidden_LD = model(**inputs).last_hidden_state[0].detach().numpy()
    expected = hidden_LD.mean(0) if pooling == "mean" else hidden_LD[0]
    np.testing.assert_allclose(texts(Shop(), pooling).encode([4])[0], expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_a_picture_is_what_a_plain_forward_gives(pooling):
    model, processor = ViTModel.from_pretrained(vit()), ViTImageProcessorPil.from_pretrained(vit())
    output = model(**processor(Shop().image(4), return_tensors="pt"))
    hidden_LD = output.last_hidden_state[0]
    expected = {"cls": hidden_LD[0], "mean": hidden_LD.mean(0), "pooler": output.pooler_output[0]}[pooling]
    np.testing.assert_allclose(pictures(Shop(), pooling).encode([4])[0], expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_neighbours_and_padding_do_not_matter(pooling):
    for encoder in (texts(patchy_shop(), pooling), pictures(patchy_shop(), pooling)):
        some = [item for item in range(NUM_ITEMS) if encoder.key(item)]
        alone = np.concatenate([encoder.encode([item]) for item in some])
        assert np.ptp(alone, axis=0).max() > 0.01
        np.testing.assert_allclose(encoder.encode(some), alone, atol=1e-5)


def test_every_item_with_content_is_in_one_batch_within_the_budget():
    encoder = texts(patchy_shop())
    some = [item for item in range(NUM_ITEMS) if item != 5]
    batches = list(encoder.batches(some))
    assert sorted(item for batch in batches for item in batch) == some
    assert len(batches) > 2 and all(len(batch) * max(len(encoder.ids[i]) for i in batch) <= 64 for batch in batches)
    pictured = [item for item in range(NUM_ITEMS) if item not in (2, 9)]
    assert [len(batch) for batch in pictures(patchy_shop()).batches(pictured)] == [12, 6]  # 2 x 2 patches and the CLS


def test_words_are_cut_and_stay_words():
    shop = Shop()
    shop.titles[0] = "[SEP] " + "lamp " * 40
    tokenizer = AutoTokenizer.from_pretrained(bert())
    ids = texts(shop, max_tokens=12).ids[0]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "[", "sep", "]", *["lamp"] * 7, "[SEP]"]


def test_an_item_with_nothing_to_encode_has_zeros():
    both = run(patchy_shop(), "text+image").embeddings_ND
    assert (both[:, :24] == 0).all(axis=1).nonzero()[0].tolist() == [5]
    assert (both[:, 24:] == 0).all(axis=1).nonzero()[0].tolist() == [2, 9]


def test_both_are_side_by_side_and_take_what_each_alone_has_left():
    shop = patchy_shop()
    text, image = run(shop, "text"), run(shop, "image")
    assert (text.encoded, image.encoded) == (NUM_ITEMS - 1, NUM_ITEMS - 2)
    both = run(shop, "text+image")
    assert (both.encoded, both.from_cache) == (0, 2 * NUM_ITEMS - 3)
    np.testing.assert_array_equal(both.embeddings_ND, np.hstack([text.embeddings_ND, image.embeddings_ND]))
    assert both.embeddings_ND.dtype == np.float32


def test_an_edit_encodes_one_and_another_model_all():
    shop = patchy_shop()
    run(shop, "text+image")
    shop.titles[4] = "red chair"
    assert run(shop, "text+image").encoded == 1
    shop.pictures[7] = drawn((1, 2, 3), (56, 56))
    assert run(shop, "text+image").encoded == 1
    assert run(shop, "image", image=vit(with_pooler=False)).encoded == NUM_ITEMS - 2
    assert run(shop, "text", precision="bfloat16").encoded == NUM_ITEMS - 1


def refusal(call) -> str:
    with pytest.raises(MolarError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals_name_the_key(tmp_path):
    key = "embed_items.text_encoder.model"
    assert refusal(lambda: run(Shop(), "text", text="models/bert/base")) == (
        f"{key} = 'models/bert/base': no such folder (a local folder, or a hub id such as "
        "google-bert/bert-base-uncased)"
    )
    assert refusal(lambda: run(Shop(), "text", text=tmp_path)) == (
        f"{key}: folder {tmp_path}: holds no readable config.json: give the folder of a checkpoint as save_pretrained "
        "writes it, or a hub id with network (or its files in the hub's cache)"
    )
    assert refusal(lambda: run(Shop(), "text", text=vit())) == (
        f"{key}: {vit()} is no text encoder (its family is 'vit'): choose a text model such as "
        "google-bert/bert-base-uncased"
    )
    assert refusal(lambda: run(Shop(), "text+image", image=bert())) == (
        f"embed_items.image_encoder.model: {bert()} is no image encoder (its family is 'bert'): choose an image model "
        "such as google/vit-base-patch16-224-in21k"
    )
    for config in (CLIPConfig(), T5Config()):  # two towers; an encoder and a decoder
        config.save_pretrained(tmp_path / config.model_type)
        words = refusal(lambda name=config.model_type: run(Shop(), "text", text=tmp_path / name))
        assert f"{config.model_type} is no text encoder (its family is '{config.model_type}')" in words
    assert refusal(lambda: texts(Shop(), max_tokens=33)) == (
        f"embed_items.text_encoder.max_tokens = 33: {bert()} reads 32 at most"
    )
    assert refusal(lambda: pictures(Shop(), "pooler", vit(with_pooler=False))) == (
        f"embed_items.image_encoder.model: {vit(with_pooler=False)} lacks the weights pooler.dense.bias, "
        "pooler.dense.weight of its model"
    )


def test_a_folder_of_weights_alone_is_refused(tmp_path):
    for kind, full in (("text", bert()), ("image", vit())):
        (tmp_path / kind).mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(full / name, tmp_path / kind / name)
        part = {"text": "tokenizer", "image": "image processor"}[kind]
        words = refusal(lambda kind=kind: run(Shop(), kind, **{kind: tmp_path / kind}))
        assert words.startswith(f"embed_items.{kind}_encoder.model: {tmp_path / kind} has no readable {part} (")
        assert kind == "image" or words.endswith("(it knows no words)")
    shutil.copytree(bert(), tmp_path / "cut", ignore=shutil.ignore_patterns("*.safetensors"))
    words = refusal(lambda: run(Shop(), "text", text=tmp_path / "cut"))
    assert words.startswith(f"embed_items.text_encoder.model: {tmp_path / 'cut'} has no readable weights (")
    (tmp_path / "cut/model.safetensors").write_bytes((bert() / "model.safetensors").read_bytes()[:5_000])
    words = refusal(lambda: run(Shop(), "text", text=tmp_path / "cut"))
    assert words.startswith(f"embed_items.text_encoder.model: {tmp_path / 'cut'} has no readable weights (")


def test_a_model_without_positions_has_its_own_pooling_alone(tmp_path):
    small = {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2}
    ConvNextModel(ConvNextConfig(num_channels=3, image_size=32, **small)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert pictures(Shop(), "pooler", tmp_path).encode([0, 1]).shape == (2, 8)
    assert refusal(lambda: pictures(Shop(), "cls", tmp_path).encode([0])) == (
        f"embed_items.image_encoder.pooling = 'cls': {tmp_path} has none: choose pooler"
    )


def test_pictures_of_several_sizes_come_back_in_order(monkeypatch):
    """Some processors keep a picture's proportions: item 3 is wider than the others."""
    encoder = pictures(Shop())
    encoder._processor = ViTImageProcessorPil(do_resize=False)
    monkeypatch.setattr(encoder, "_pooled", lambda pixels_BCHW: pixels_BCHW.mean((2, 3)).numpy())
    rows = [2, 3, 4]
    alone = np.concatenate([encoder.encode([item]) for item in rows])
    np.testing.assert_allclose(encoder.encode(rows), alone, atol=1e-6)


def test_a_catalogue_without_pictures_is_refused():
    shop = Shop()
    for item in range(NUM_ITEMS):
        shop.hide_picture(item)
    words = "embed_items.encoder = 'image': no item of the catalogue has a picture"
    assert refusal(lambda: run(shop, "image")) == words
