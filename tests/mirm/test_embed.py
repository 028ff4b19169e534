"""Embeddings: one vector an item whatever its neighbours, computed once, found again by content."""

import functools
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MolarError
from pipeline.mirm import embed
from pipeline.mirm.cache import cache_root
from pipeline.mirm.embed import Encoder, embed_items
from pipeline.mirm.rows import FILLED, ROWS, filled_rows
from pipeline.params.embed_items import EmbedItems
from pipeline.progress import console
from tests.mirm.shop import NUM_ITEMS, Shop, backbone, recipe

CPU = torch.device("cpu")
DIGESTS = {"model.safetensors": "0"}


def params(**changes):
    recipe = {
        "encoder": "mirm",
        "text_encoder": {"model": None, "revision": None, "pooling": "mean", "max_tokens": 16},
        "image_encoder": {"model": None, "revision": None, "pooling": "cls"},
        "modality": "text+image",
        "batch_tokens": 128,
        "precision": "float32",
        "compile": False,
        "dtype": "float32",
        "shard_items": 8,
        "conditioning": {"kind": "pca", "floor": 0.03},
    }
    return EmbedItems(**{**recipe, **changes})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))


def mixed_shop():
    """Long and short words, wide and square pictures, and items without one."""
    shop = Shop()
    for item in (2, 9, 17):
        shop.hide_picture(item)
    shop.titles[5] = "a"
    shop.texts[6] = "a long description of many words that goes on"
    return shop


def run(shop, digests=DIGESTS, **changes):
    return embed_items(backbone(), shop, params(**changes), digests, CPU)


def test_neighbours_and_padding_do_not_matter():
    shop = mixed_shop()
    encoder = Encoder(backbone(), shop, "text+image", CPU)
    alone = np.concatenate([encoder.encode([item]) for item in range(NUM_ITEMS)])
    assert np.ptp(alone, axis=0).max() > 0.01  # the items do differ
    np.testing.assert_allclose(encoder.encode(list(range(NUM_ITEMS))), alone, atol=1e-5)
    for tokens in (64, 512):
        np.testing.assert_allclose(run(shop, {"x": str(tokens)}, batch_tokens=tokens).embeddings_ND, alone, atol=1e-5)


def test_embedding_is_the_last_hidden_state_of_a_plain_forward():
    mirm, shop = backbone(), Shop()
    text = "item<|vision_start|><|image_pad|><|vision_end|> lamp number 4 ; brand bonto ; material oak<|item_emb|>"
    inputs = mirm.processor(text=[text], images=[[shop.image(4)]], return_tensors="pt")
    expected = mirm.model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
    actual = Encoder(mirm, shop, "text+image", CPU).encode([4])[0]
    np.testing.assert_allclose(actual, expected.detach().numpy(), atol=1e-6)


def test_every_item_is_in_one_batch_within_the_budget():
    encoder = Encoder(backbone(), mixed_shop(), "text+image", CPU, 128)
    batches = list(encoder.batches())
    assert sorted(item for batch in encoder.batches([3, 8, 2]) for item in batch) == [2, 3, 8]
    assert list(encoder.batches([])) == []
    assert sorted(item for batch in batches for item in batch) == list(range(NUM_ITEMS))
    assert len(batches) > 2
    assert all(len({encoder.shape(item) for item in batch}) == 1 for batch in batches)
    assert all(len(batch) * encoder.shape(batch[0]).length <= 128 for batch in batches)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    some=st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, unique=True),
    known=st.sets(st.integers(0, NUM_ITEMS - 1), min_size=1),
    tokens=st.sampled_from([128, 4096]),
)
def test_no_bit_depends_on_neighbours_on_order_or_on_what_the_cache_holds(some, known, tokens):
    """Any items in any order, some of them known from another run: the bits of each item alone."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOLAR_CACHE", folder)
        embed_items(one_mirm(), some_of(sorted(known)), params(batch_tokens=tokens), DIGESTS, CPU)
        found = embed_items(one_mirm(), some_of(some), params(batch_tokens=tokens), DIGESTS, CPU)
    assert found.encoded == len(set(some) - known)
    np.testing.assert_array_equal(found.embeddings_ND, alone(tokens)[some])


@functools.cache
def one_mirm():
    return backbone()


@functools.cache
def alone(tokens):
    encoder = Encoder(one_mirm(), mixed_shop(), "text+image", CPU, tokens)
    return np.concatenate([encoder.encode([item]) for item in range(NUM_ITEMS)])


def some_of(numbers):
    shop = mixed_shop()
    for name in ("item_ids", "titles", "texts", "captions", "summaries", "attributes", "pictures"):
        setattr(shop, name, [getattr(shop, name)[n] for n in numbers])
    shop.has_image = shop.has_image[numbers]
    return shop


def test_dropping_a_modality_changes_what_an_item_is():
    shop = Shop()
    both, image, text = (run(shop, modality=m).embeddings_ND for m in ("text+image", "image", "text"))
    assert not np.allclose(both, image) and not np.allclose(both, text)
    np.testing.assert_allclose(image[0], image[6], atol=1e-6)  # same colour, other words
    shop.pictures[0] = shop.pictures[1]
    np.testing.assert_array_equal(run(shop, modality="text").embeddings_ND, text)


def test_second_run_encodes_nothing_and_an_edit_one_item():
    shop = Shop()
    first = run(shop)
    assert (first.encoded, first.from_cache) == (NUM_ITEMS, 0)
    second = run(shop)
    assert (second.encoded, second.from_cache) == (0, NUM_ITEMS)
    np.testing.assert_array_equal(first.embeddings_ND, second.embeddings_ND)
    shop.titles[4] = "another lamp"
    edited = run(shop)
    assert (edited.encoded, edited.from_cache) == (1, NUM_ITEMS - 1)
    assert (edited.embeddings_ND != first.embeddings_ND).any(axis=1).nonzero()[0].tolist() == [4]
    shop.pictures[7] = shop.pictures[8]
    assert run(shop).encoded == 1
    shop.captions[3] = shop.summaries[3] = "never an input"
    assert run(shop).encoded == 0
    assert run(shop, digests={"model.safetensors": "1"}).encoded == NUM_ITEMS


def test_another_pillow_encodes_pictures_anew_and_words_not(monkeypatch):
    shop = Shop()
    first, words = run(shop), run(shop, modality="text")
    monkeypatch.setattr("PIL.__version__", "0.0.1")
    again = run(shop)
    assert (again.encoded, run(shop, modality="text").encoded) == (NUM_ITEMS, 0)
    assert words.encoded == NUM_ITEMS
    np.testing.assert_array_equal(again.embeddings_ND, first.embeddings_ND)


def test_a_killed_run_goes_on_with_the_same_bits(monkeypatch, tmp_path):
    shop = mixed_shop()
    expected = run(shop).embeddings_ND
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "other"))
    encode, calls = Encoder.encode, []

    def killed(self, items):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(items)
        return encode(self, items)

    monkeypatch.setattr(Encoder, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(shop)
    monkeypatch.setattr(Encoder, "encode", encode)
    resumed = run(shop)
    assert resumed.from_cache == sum(map(len, calls)) > 0
    np.testing.assert_array_equal(resumed.embeddings_ND, expected)


def bounded(monkeypatch, rows, error=torch.OutOfMemoryError, at=0):
    """Memory for no more than `rows` rows at once, from the n-th batch on; batches filled up as on a GPU."""
    monkeypatch.setattr("pipeline.mirm.rows.FILLED", ROWS)
    forward, done = Encoder._forward, []

    def checked(self, filled, length):
        done.append(len(filled))
        if len(filled) > rows and len(done) > at:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return forward(self, filled, length)

    monkeypatch.setattr(Encoder, "_forward", checked)
    return done


def files_of(folder):
    return {path.name for path in folder.glob("*.sqlite")}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_where_a_batch_does_not_fit_all_items_have_the_bits_of_the_smaller_bound(monkeypatch, tmp_path, error):
    """Found out late, with vectors of the larger bound in a cache already: none of them is used."""
    shop = mixed_shop()
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "half"))
    expected = run(shop, batch_tokens=64).embeddings_ND
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "backed off"))
    with monkeypatch.context() as patch:
        done = bounded(patch, rows=4, error=error, at=2)
        with console.capture() as capture:
            found = run(shop, batch_tokens=512)
        assert found.encoded == NUM_ITEMS and max(done[-9:]) <= 4
        np.testing.assert_array_equal(found.embeddings_ND, expected)
        assert files_of(cache_root()) > files_of(tmp_path / "half")
        said = capture.get().splitlines()
        halves = [line.split("embed_items.batch_tokens = ")[1].split(",")[0] for line in said]
        assert halves == ["256", "128", "64"]  # short items have more rows, and failed later
        assert said[-1].startswith("embed_items: 8 rows of 16 tokens do not fit into memory: all items as with ")
        again = run(shop, batch_tokens=512)  # the try fails at once, the rest is known
        assert (again.encoded, again.from_cache) == (0, NUM_ITEMS)
        np.testing.assert_array_equal(again.embeddings_ND, expected)
    roomy = run(shop, batch_tokens=512)  # memory is free again: what was half is not mixed in
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "never failed"))
    np.testing.assert_array_equal(roomy.embeddings_ND, run(shop, batch_tokens=512).embeddings_ND)


def test_killed_while_backing_off_it_ends_with_the_same_bits(monkeypatch, tmp_path):
    shop = mixed_shop()
    bounded(monkeypatch, rows=4)
    expected = run(shop, batch_tokens=512).embeddings_ND
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "killed"))
    encode, done = Encoder.encode, []

    def killed(self, items):
        if sum(map(len, done)) >= 4:
            raise KeyboardInterrupt
        rows_BD = encode(self, items)
        done.extend([items] if self.batch_tokens == 64 else [])  # the last half
        return rows_BD

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "encode", killed)
        run(shop, batch_tokens=512)
    resumed = run(shop, batch_tokens=512)
    assert NUM_ITEMS > resumed.from_cache == sum(map(len, done)) > 0
    np.testing.assert_array_equal(resumed.embeddings_ND, expected)


def test_an_item_that_does_not_fit_alone_says_what_to_lower(monkeypatch):
    bounded(monkeypatch, rows=0)
    with pytest.raises(MolarError) as error:
        run(Shop())
    assert str(error.value) == (
        "embed_items: item 'i2' alone, padded to 32 tokens, does not fit into memory: lower finetune_mirm.image_pixels "
        "or finetune_mirm.max_text_tokens, or set embed_items.precision to bfloat16 if it is float32"
    )


def test_other_errors_of_the_model_stay_what_they_are(monkeypatch):
    def broken(self, filled, length):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Encoder, "_forward", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(Shop())


def test_a_damaged_cache_is_named():
    run(Shop())
    (path,) = cache_root().glob("*.sqlite")
    for extra in cache_root().glob("*.sqlite-*"):
        extra.unlink()
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(MolarError) as error:
        run(Shop())
    assert str(error.value) == (
        f"{path}: the embedding cache is damaged (file is not a database): delete this file and run again"
    )


def test_bfloat16_is_close():
    mirm = backbone(recipe(tuning="none", precision="bfloat16"))
    small = embed.embed_items(mirm, Shop(), params(precision="bfloat16"), DIGESTS, CPU).embeddings_ND
    full = run(Shop()).embeddings_ND
    cosine = (small * full).sum(1) / np.linalg.norm(small, axis=1) / np.linalg.norm(full, axis=1)
    assert small.dtype == np.float32 and cosine.min() > 0.999


def test_one_of_several_processes_stops_where_a_batch_does_not_fit(monkeypatch):
    monkeypatch.setattr("pipeline.mirm.embed.processes.count", lambda: 2)
    bounded(monkeypatch, rows=4)
    monkeypatch.setattr("pipeline.mirm.embed.embed_once", lambda encoder, *_: encoder.encode([1] * 8))
    with pytest.raises(MolarError, match=r"lower embed_items\.batch_tokens"):
        run(Shop(), batch_tokens=512)


def test_the_last_batch_of_a_shape_is_filled_to_four_rows_on_a_cpu_and_to_the_end_on_a_gpu():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [filled_rows(count, 16, 4096, cpu) for count in (1, FILLED, 5, ROWS)] == [4, 4, 8, ROWS]
    assert [filled_rows(count, 16, 4096, gpu) for count in (1, ROWS)] == [ROWS, ROWS]
    assert filled_rows(1, 2000, 4096, cpu) == 2, "no more than a batch has"


def test_four_rows_or_more_round_alike(cache):
    """Whatever the number of rows, at every length of the shop's items: what filled_rows relies on."""
    shop, mirm = mixed_shop(), backbone()
    encoder = Encoder(mirm, shop, "text+image", torch.device("cpu"))
    for first in range(NUM_ITEMS):
        alike = [item for item in range(NUM_ITEMS) if encoder.shape(item) == encoder.shape(first)]
        expected, length = encoder._forward([first] * ROWS, encoder.shape(first).length)[0], encoder.shape(first).length
        for rows in range(FILLED, ROWS, FILLED):
            found = encoder._forward(([first, *alike] * ROWS)[:rows], length)[0]
            np.testing.assert_array_equal(found, expected)
