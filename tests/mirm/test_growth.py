"""Grown, edited, reordered, removed: what is new is encoded, and shards that hold nothing new keep their names."""

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.mirm.embed import embed_items
from pipeline.mirm.shards import write_embeddings
from tests.mirm.shop import NUM_ITEMS, Shop, backbone
from tests.mirm.test_embed import CPU, DIGESTS, params

CATALOGUE = 100
FIELDS = ("item_ids", "titles", "texts", "captions", "summaries", "attributes", "pictures")


class Any100(Shop):
    """The items of the shop called `numbers`: item n looks like item n % 20 and has a title of its own."""

    def __init__(self, numbers):
        numbers = list(numbers)
        super().__init__()
        for name in FIELDS:
            setattr(self, name, [getattr(self, name)[n % NUM_ITEMS] for n in numbers])
        self.item_ids = [f"i{n}" for n in numbers]
        self.titles = [f"thing number {n}" for n in numbers]
        self.has_image = np.array([n % 7 != 3 for n in numbers])


@pytest.fixture(scope="module")
def mirm():
    return backbone()


@pytest.fixture
def run(tmp_path, monkeypatch, mirm):
    """shop -> (items encoded, names of its shards of ten items), with a cache that already holds items 0 to 99."""
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))

    def embedded(shop):
        done = embed_items(mirm, shop, params(), DIGESTS, CPU)
        assert done.encoded + done.from_cache == len(shop)
        with artifacts.write(tmp_path / "embeddings") as out:
            write_embeddings(out, done.embeddings_ND, "float32", 10)
        names = artifacts.read(tmp_path / "embeddings", "embed_items").names
        return done.encoded, names

    assert embedded(Any100(range(CATALOGUE)))[0] == CATALOGUE
    return embedded


def changed(before, after):
    """Numbers of the shards of `after` that `before` does not have by the same name."""
    return [int(name[6:11]) for name in after if name not in before]


def test_a_catalogue_grown_by_one_per_cent_encodes_one_per_cent(run):
    _, before = run(Any100(range(CATALOGUE)))
    encoded, after = run(Any100(range(CATALOGUE + 1)))
    assert encoded == 1 and changed(before, after) == [10]
    encoded, after = run(Any100([*range(75), 500, *range(75, CATALOGUE)]))  # a new warm item before 25 cold ones
    assert encoded == 1 and changed(before, after) == [7, 8, 9, 10], "only what stands behind it moves"


def test_an_edit_encodes_one_item_and_changes_one_shard(run):
    _, before = run(Any100(range(CATALOGUE)))
    shop = Any100(range(CATALOGUE))
    shop.titles[42] = "a better title"
    encoded, after = run(shop)
    assert encoded == 1 and changed(before, after) == [4]
    shop.pictures[88] = shop.pictures[89]
    assert run(shop)[0] == 1
    shop.hide_picture(25)
    assert run(shop)[0] == 1
    shop.captions[3], shop.summaries[4], shop.item_ids[5] = "never", "an", "input"
    assert run(shop)[0] == 0
    assert run(Any100(range(CATALOGUE))) == (0, before), "back to what was: known, and the same bytes"


def test_removing_and_reordering_encode_nothing(run):
    _, before = run(Any100(range(CATALOGUE)))
    encoded, after = run(Any100([n for n in range(CATALOGUE) if n != 55]))
    assert encoded == 0 and changed(before, after) == [5, 6, 7, 8, 9]
    assert run(Any100(reversed(range(CATALOGUE))))[0] == 0
    assert run(Any100([0] * 3 + [700] * 3))[0] == 1, "of equal items one is encoded"
