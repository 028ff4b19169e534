"""`embed_items --verify`: what stands is what the items give, and what is not is named with its shard."""

import numpy as np
import pytest
import torch

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.mirm.embed import embed_items
from pipeline.mirm.shards import write_embeddings
from pipeline.mirm.verify import verify
from tests.mirm.shop import NUM_ITEMS, Shop, backbone
from tests.mirm.test_embed import CPU, DIGESTS, params


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))


def stand(directory, embeddings_ND, dtype="float32"):
    with artifacts.write(directory) as out:
        write_embeddings(out, embeddings_ND, dtype, 8)
    return artifacts.read(directory, "embed_items")


def state(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_stands_is_found_again_and_nothing_is_written(tmp_path, dtype):
    stored = stand(tmp_path / "e", embed_items(backbone(), Shop(), params(), DIGESTS, CPU).embeddings_ND, dtype)
    before = state(tmp_path)
    found = verify(backbone(), Shop(), params(dtype=dtype), stored, 7, CPU)
    assert found.items == 7 and found.cosine > 0.9999
    assert found.largest < 3e-3 and (dtype == "float16" or found.largest == 0)
    assert verify(backbone(), Shop(), params(dtype=dtype), stored, 999, CPU).items == NUM_ITEMS
    assert state(tmp_path) == before


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_the_first_item_that_differs_is_named_with_its_shard(tmp_path, monkeypatch, wrong):
    embeddings_ND = embed_items(backbone(), Shop(), params(), DIGESTS, CPU).embeddings_ND.copy()
    embeddings_ND[[13, 17], 5] += wrong
    with monkeypatch.context() as earlier:  # which wrote what it was given
        earlier.setattr(np, "isfinite", lambda values: np.ones(values.shape, np.bool_))
        stored = stand(tmp_path / "e", embeddings_ND)
    with pytest.raises(MolarError) as error:
        verify(backbone(), Shop(), params(), stored, NUM_ITEMS, CPU)
    shard = next(name for name in stored.names if name.startswith("shard-00001"))
    assert str(error.value).startswith(f"{tmp_path / 'e' / shard}: item 'i13' (item_idx 13) differs by ")
    assert "\n" not in str(error.value)


def test_an_edited_catalogue_and_a_grown_one(tmp_path):
    stored = stand(tmp_path / "e", embed_items(backbone(), Shop(), params(), DIGESTS, CPU).embeddings_ND)
    shop = Shop()
    shop.titles[3] = "another thing"
    with pytest.raises(MolarError, match="item 'i3'"):
        verify(backbone(), shop, params(), stored, NUM_ITEMS, CPU)
    fewer = stand(tmp_path / "f", np.zeros((NUM_ITEMS - 1, 32), np.float32))
    with pytest.raises(MolarError, match="holds 19 items, the catalogue 20: run `dvc repro embed_items`"):
        verify(backbone(), Shop(), params(), fewer, 4, torch.device("cpu"))
