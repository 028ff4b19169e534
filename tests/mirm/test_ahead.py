"""Pictures prepared by other processes: the same bits, in order, bounded, and one line when something breaks."""

import io
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import MolarError
from pipeline.mirm import ahead as module
from pipeline.mirm.ahead import Calls, ahead
from pipeline.mirm.cache import cache_root
from pipeline.mirm.embed import embed_items
from pipeline.mirm.pictures import Pictures
from tests.mirm.shop import NUM_ITEMS, Shop, backbone
from tests.mirm.test_embed import CPU, DIGESTS, mixed_shop, params


@pytest.fixture(autouse=True)
def small_calls(monkeypatch):
    """Two pictures a call, so that there are many."""
    monkeypatch.setattr(module, "TOGETHER", 2)


@pytest.fixture
def mirm():
    return backbone()


def prepared(mirm, shop, workers):
    pictures = Pictures(shop, mirm)
    given = list(ahead(pictures, [item for item in range(NUM_ITEMS) if shop.has_image[item]], workers))
    return given, [pictures[item] for item in given]


def embedded(mirm, shop, workers, monkeypatch, folder):
    monkeypatch.setenv("MOLAR_CACHE", str(folder))
    vectors_ND = embed_items(mirm, shop, params(), DIGESTS, CPU, workers).embeddings_ND
    (cache,) = cache_root().glob("*.sqlite")
    return vectors_ND, cache.name


def nobody_is_left():
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not multiprocessing.active_children()


def test_vectors_and_cache_are_the_same_for_any_number_of_processes(mirm, monkeypatch, tmp_path):
    vectors, names = zip(
        *(embedded(mirm, mixed_shop(), n, monkeypatch, tmp_path / str(n)) for n in (0, 1, 2)), strict=True
    )
    assert len(set(names)) == 1
    np.testing.assert_array_equal(vectors[1], vectors[0])
    np.testing.assert_array_equal(vectors[2], vectors[0])
    assert nobody_is_left()


def test_pictures_come_in_order_with_the_same_bits_and_the_global_seed_stays(mirm):
    shop = mixed_shop()
    state = torch.get_rng_state()
    alone, expected = prepared(mirm, shop, 0)
    given, pictures = prepared(mirm, shop, 2)
    assert given == alone == [item for item in range(NUM_ITEMS) if shop.has_image[item]]
    for one, other in zip(pictures, expected, strict=True):
        assert (one.ids, one.types, list(one.tensors)) == (other.ids, other.types, list(other.tensors))
        assert all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())
        assert not any(tensor.is_shared() for tensor in one.tensors.values())  # nothing holds a file open
    assert torch.equal(torch.get_rng_state(), state)


def test_large_pictures_are_fewer_in_a_call(mirm, monkeypatch):
    asked = []
    monkeypatch.setattr(Calls, "__getitem__", lambda self, n: asked.append(len(self._chunks[n])) or "enough")
    monkeypatch.setattr(module, "CALL_BYTES", 1)
    with pytest.raises(MolarError, match="enough"):
        list(ahead(Pictures(Shop(), mirm), range(NUM_ITEMS), 0))
    assert asked == [1]


def refused(mirm, shop, workers, monkeypatch, tmp_path):
    """What is said in place of embeddings: one line, and no process stays behind."""
    with pytest.raises(MolarError) as error:
        embedded(mirm, shop, workers, monkeypatch, tmp_path)
    said = str(error.value)
    assert "\n" not in said
    del error  # it holds the loader
    assert nobody_is_left()
    return said


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_in_one_line(mirm, workers, monkeypatch, tmp_path):
    shop = Shop()
    shop.pictures[11] = shop.pictures[11][:100]
    said = refused(mirm, shop, workers, monkeypatch, tmp_path)
    assert said.startswith("the picture of item 'i11' cannot be decoded (")
    assert said.endswith("): run `dvc repro --force --single-item ingest`")


def test_a_process_that_dies_is_one_line_and_no_hang(mirm, monkeypatch, tmp_path):
    shop, me = Shop(), os.getpid()

    def killed(idx):
        if os.getpid() != me and idx == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return Image.open(io.BytesIO(shop.pictures[idx])).convert("RGB")

    monkeypatch.setattr(shop, "image", killed)
    said = refused(mirm, shop, 2, monkeypatch, tmp_path)
    assert said.startswith("a process that prepares pictures has ended (DataLoader worker")
    assert said.endswith("or lower runtime.workers (MOLAR_WORKERS=0: none)")


def test_no_shared_memory_is_one_line_and_no_hang(mirm, monkeypatch, tmp_path):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </x>: No space left on device (28)\nmore")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(MolarError, match=r"^no shared memory .*No space left on device \(28\)\): .*workers.*none\)$"):
        embedded(mirm, Shop(), 1, monkeypatch, tmp_path)


def test_leaving_early_leaves_no_process(mirm):
    pictures = ahead(Pictures(Shop(), mirm), range(NUM_ITEMS), 2)
    assert next(pictures) == 0 and multiprocessing.active_children()
    pictures.close()
    assert nobody_is_left()
