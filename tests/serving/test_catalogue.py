"""The catalogue by ids: histories, titles, pictures, the table of items and the filters over it."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipeline.serving
from pipeline.serving import Catalogue
from pipeline.serving.content import One
from tests.catalog.shop import ingest, ingest_params, png, refusal, write_shop

ITEMS = """id,title,text,image,brand,cold
a,Apple,A fruit,a.png,Orchard,no
b,Boot,,b.png,,
c,Cup,A vessel,,Potter,
d,Dial,Unseen,,,
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a catalogue alone, of which item d is cold; one attribute is called like a column."""
    root = tmp_path_factory.mktemp("shop")
    params = ingest_params(write_shop(root / "raw", items=ITEMS), keep_unseen_items=True)
    ingest(params, root / "data" / "catalog")
    return root / "data"


@pytest.fixture
def catalogue(data):
    return Catalogue.open(data)


def test_histories_titles_and_pictures_go_by_id(catalogue):
    assert catalogue.user_ids == ["ann", "bob"] and len(catalogue) == 4
    assert [catalogue.history(user) for user in ("ann", "bob")] == [["a", "b", "c"], ["b", "a", "c"]]
    assert catalogue.find("cup", "a") == ["c", "a"]
    assert catalogue.image("a").size == (8, 8) and catalogue.image("c") is None


def test_the_table_of_items_has_a_column_for_each_attribute(catalogue):
    assert catalogue.items.to_pydict() == {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Apple", "Boot", "Cup", "Dial"],
        "text": ["A fruit", None, "A vessel", "Unseen"],
        "cold": [False, False, False, True],
        "interactions": [1, 1, 0, 0],
        "picture": [True, True, False, False],
        "brand": ["Orchard", None, "Potter", None],
        "attributes.cold": ["no", None, None, None],
    }
    assert catalogue.rows([2, 0])["item_id"].to_pylist() == ["c", "a"]


@pytest.mark.parametrize("of", [list, pa.array, lambda ids: pa.chunked_array([[one] for one in ids]), np.array])
def test_ids_may_stand_in_a_column(catalogue, of):
    ids = of(["c", "a"])
    assert catalogue.numbers(ids, "history").tolist() == [2, 0]
    assert catalogue.numbers([ids[0]], "similar").tolist() == [2]
    assert catalogue.numbers(pa.array(["a", "b"]).dictionary_encode(), "exclude").tolist() == [0, 1]


def test_an_expression_chooses_items_and_null_is_no(catalogue):
    assert catalogue.where(pc.field("brand") == "Potter").tolist() == [False, False, True, False]
    assert catalogue.where((pc.field("brand") != "Potter") | pc.field("cold")).tolist() == [True, False, False, True]
    assert not catalogue.where(pc.field("interactions") > 5).any()


def test_an_added_item_is_like_the_others_and_another_catalogue_does_not_have_it(catalogue, data):
    catalogue.add(One("e", "Egg", None, {"brand": "Orchard", "size": "L"}, png(5, 5)))
    assert catalogue.items.to_pylist()[-1] == {
        "item_id": "e", "title": "Egg", "text": None, "cold": True, "interactions": 0, "picture": True,
        "brand": "Orchard", "attributes.cold": None, "size": "L",
    }  # fmt: skip
    assert catalogue.find("egg") == ["e"] and catalogue.image("e").size == (5, 5)
    assert catalogue.where(pc.field("brand") == "Orchard").tolist() == [True, False, False, False, True]
    assert len(Catalogue.open(data)) == 4
    assert catalogue.free_id(None) == "new-1" and catalogue.free_id("f") == "f"


def test_mistakes_are_one_line(catalogue, tmp_path):
    assert refusal(lambda: Catalogue.open(tmp_path / "no")).startswith(
        f"there is no folder {tmp_path / 'no'}: give the"
    )
    assert refusal(lambda: Catalogue.open(tmp_path)) == (
        f"{tmp_path / 'catalog'} is missing or unfinished: run `dvc repro ingest`"
    )
    assert refusal(lambda: catalogue.history("anne")) == "no user 'anne': did you mean 'ann'?"
    assert refusal(lambda: catalogue.image("z")) == "image: no item has the id 'z': nothing is spelled like it"
    assert refusal(lambda: catalogue.numbers("abc", "history")) == (
        "history = 'abc': should be a list of item ids, such as ['abc']"
    )
    assert refusal(lambda: catalogue.numbers([318], "history")) == (
        "history: no item has the id 318: nothing is spelled like it"
    )
    whole = catalogue.items  # not a column of it
    assert refusal(lambda: catalogue.numbers(whole, "history")) == (
        "history is of the type Table: should be a list of item ids, or a column"
    )
    assert refusal(lambda: catalogue.numbers(5, "history")).startswith("history is of the type int")
    assert refusal(lambda: catalogue.numbers(np.array([["a"]]), "history")).startswith("history is of the type ndarray")
    assert refusal(lambda: catalogue.numbers(whole["title"], "history")) == (
        "history: no item has the id 'Apple': nothing is spelled like it"
    )
    assert refusal(lambda: catalogue.image(whole["item_id"])).startswith("image: no item has the id <pyarrow.lib.Chunk")
    assert refusal(lambda: catalogue.free_id("a")).startswith("add_item: there is an item 'a' already")
    assert "should be a pyarrow expression" in refusal(lambda: catalogue.where("brand == 'x'"))
    unknown = refusal(lambda: catalogue.where(pc.field("colour") == "red"))
    assert 'where = (colour == "red"): No match for FieldRef.Name(colour) (the columns are item_id, ti' in unknown
    assert "where = (brand > 1): " in refusal(lambda: catalogue.where(pc.field("brand") > 1))
    assert "where = interactions" in refusal(lambda: catalogue.where(pc.field("interactions")))
    assert isinstance(catalogue.items, pa.Table)


ALONE = """
import json, sys
from pipeline.serving import Catalogue
catalogue = Catalogue.open(sys.argv[1])
catalogue.items, catalogue.find("cup"), catalogue.history("ann"), catalogue.image("a")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_catalogue_alone_loads_no_model_library(data):
    done = subprocess.run([sys.executable, "-c", ALONE, str(data)], check=True, capture_output=True, text=True)
    assert not {"torch", "transformers", "faiss"} & set(json.loads(done.stdout))


def test_the_recommender_comes_when_it_is_asked_for():
    from pipeline.serving import Recommender
    from pipeline.serving.recommender import Recommender as itself

    assert Recommender is itself and {"Catalogue", "Recommender"} <= set(dir(pipeline.serving))
    with pytest.raises(AttributeError, match=r"module 'pipeline\.serving' has no attribute 'Recommend'"):
        pipeline.serving.Recommend  # noqa: B018
