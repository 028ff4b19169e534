"""What callers may give `Recommender`, over a shop of four items and an untrained model: no run is needed for that."""

import decimal
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from pipeline import artifacts
from pipeline.mirm.shards import conditioned, write_conditioning, write_embeddings
from pipeline.params import load_params
from pipeline.params.training import SASRec
from pipeline.recommender import fpmc
from pipeline.recommender.grid import Spec, build
from pipeline.retrieval import index
from pipeline.serving import Catalogue, Recommender
from pipeline.serving.content import Content
from pipeline.serving.given import NOBODY
from pipeline.serving.tables import frozen
from tests.catalog.shop import ingest, ingest_params, refusal, write_shop
from tests.conftest import ROOT
from tests.mirm.test_embed import params as embed_params

ITEMS = """id,title,text,image,brand,rank,score
a,Apple,A fruit,a.png,Orchard,first,high
b,Boot,,b.png,,,
c,Cup,A vessel,,Potter,,
d,Dial,Unseen,,,,
"""
FLAT = {"kind": "flat", "ivf_lists": 1, "ivf_probes": 1, "hnsw_neighbours": 8, "hnsw_ef": 16}


class Drawn(Content):
    """The checks of a new item are the real ones, its embedding is drawn: no encoder is loaded."""

    def features(self, item, example, number):
        return np.random.default_rng(len(item.item_ids[0])).normal(size=5).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a catalogue and embeddings, two of its attributes called like columns of an answer."""
    root = tmp_path_factory.mktemp("shop")
    asked = ingest_params(write_shop(root / "raw", items=ITEMS), keep_unseen_items=True)
    ingest(asked, root / "data" / "catalog")
    with artifacts.write(root / "data" / "embeddings") as out:
        write_embeddings(out, np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32), "float32", 8)
        write_conditioning(out, np.zeros(5), np.eye(5))
    return root / "data"


@pytest.fixture
def recommender(data):
    torch.manual_seed(0)
    embeddings = artifacts.read(data / "embeddings", "embed_items")
    spec = Spec(
        items="mirm", model="sasrec", num_items=4, num_trained=3, max_history=4,
        sasrec=SASRec(dim=8, layers=1, heads=2, dropout=0.1, norm="pre", count_from="end"),
        head=load_params(ROOT / "params.yaml").train_dueg.head,
    )  # fmt: skip
    dueg = frozen(build(spec, embeddings, None))
    built = index.build(dueg.item_vectors(), dueg.rankable, **FLAT)
    mirm = artifacts.Artifact(data / "mirm", "finetune_mirm")
    return Recommender(
        Catalogue.open(data),
        dueg,
        teacher=None,
        mix=None,
        searcher=lambda items_ND: index.Searcher(built, items_ND),
        content=Drawn(embed_params(), ingest_params(data), mirm, embeddings, "cpu"),
        features=lambda: conditioned(embeddings),
        mask_seen=False,
    )


def test_a_new_item_s_values_become_text_and_gaps_are_no_values(recommender):
    given = {
        "year": 1995, "brand": float("nan"), 5: "x", "size": np.float64(2.0), "new": np.bool_(True), "in": None,
        "long": 2**70, "price": decimal.Decimal("1.50"), "of": pa.scalar("us"), "odd": "\ud800", "no": "",
    }  # fmt: skip
    assert recommender.add_item("x q", text=3, image=float("nan"), attributes=given, item_id=5) == "5"
    row = recommender.recommend(["a", "5"], 9).filter(pc.field("item_id") == "5").to_pylist()[0]
    assert (row["text"], row["picture"], row["brand"], row["year"], row["5"]) == ("3", False, None, "1995", "x")
    assert (row["size"], row["new"], row["long"], row["price"]) == ("2", "true", str(2**70), "1.50")
    assert (row["of"], row["odd"]) == ("us", "?") and not {"in", "no"} & set(row)
    assert recommender.add_item(None, float("nan"), attributes={"brand": "alba"}, item_id=np.nan) == "new-1"
    assert recommender.similar("new-1").num_rows == 5


def test_a_value_that_no_text_stands_for_is_one_line_and_adds_nothing(recommender):
    before = recommender.recommend(["a"], 9)
    of = "should be a string, a number or None"
    for given, message in (
        ({"attributes": {"tags": ["a", "b"]}}, f"add_item: the attribute 'tags' is of the type list: {of}"),
        ({"attributes": {("a",): "b"}}, f"add_item: the name of an attribute is of the type tuple: {of}"),
        ({"attributes": {None: "b"}}, "add_item: an attribute has no name: give it one, or leave it out"),
        ({"attributes": "brand"}, "add_item: attributes are of the type str: should be a mapping of names to values"),
        ({"text": {"en": "x"}}, f"add_item: text is of the type dict: {of}"),
        ({"item_id": b"\xff"}, f"add_item: item_id is of the type bytes: {of}"),
        ({"item_id": ""}, "add_item: item_id is blank: give it characters, or leave it out"),
        ({"image": 5}, "add_item: image is of the type int: give a path, bytes, a PIL image or None"),
    ):
        assert refusal(lambda given=given: recommender.add_item("x q", **given)).startswith(message)
    assert len(recommender.catalogue) == 4 and recommender.recommend(["a"], 9).equals(before)


def test_no_attribute_takes_the_place_of_a_column_of_the_answer(recommender):
    recommender.add_item("Egg", attributes={"attributes.rank": "egg's", "rank": "last"}, item_id="e")
    for answer in (recommender.recommend(["b"], 9), recommender.similar("b", 9)):
        assert len(set(answer.column_names)) == len(answer.column_names)
        assert answer.column_names[:4] == ["rank", "item_id", "title", "score"]
        assert answer["rank"].to_pylist() == list(range(1, len(answer) + 1))
        of = {row["item_id"]: row for row in answer.to_pylist()}
        assert (of["a"]["attributes.rank"], of["a"]["attributes.score"]) == ("first", "high")
        assert (of["e"]["attributes.rank"], of["e"]["attributes.attributes.rank"]) == ("last", "egg's")
    chosen = recommender.recommend(["b"], 9, where=pc.field("attributes.rank") == "first")
    assert chosen["item_id"].to_pylist() == ["a"]


def test_what_an_answer_lists_may_be_asked_with_again(recommender):
    ids = recommender.recommend(["a"], 9)["item_id"]
    assert recommender.recommend(ids, 9).equals(recommender.recommend(ids.to_pylist(), 9))
    assert recommender.recommend(ids, 9, exclude=ids[:3])["item_id"].to_pylist() == ids[3:].to_pylist()
    assert recommender.similar(ids[0], 9).equals(recommender.similar(ids[0].as_py(), 9))


def test_k_is_a_whole_number_of_any_library(recommender, monkeypatch):
    asked = []
    search = recommender._searcher.search
    monkeypatch.setattr(recommender._searcher, "search", lambda users, k, *of: asked.append(k) or search(users, k, *of))
    answers = {
        "recommend": lambda k: recommender.recommend(["a"], k),
        "similar": lambda k: recommender.similar("a", k),
        "search": lambda k: recommender.search([np.array([0])], k=k)[0][0],
    }
    for answer in answers.values():
        assert len(answer(np.int64(3))) == len(answer(3)) == 3
        for wrong in (2.5, "5", None):
            assert refusal(lambda answer=answer, k=wrong: answer(k)) == f"k = {wrong!r}: should be a whole number"
        assert refusal(lambda answer=answer: answer(np.int32(0))) == "k = 0: should be at least 1"
    for answer in answers.values():
        assert len(answer(10**12)) == len(answer(4)), "no more than there are items, and memory for no more"
    assert {type(k) for k in asked} == {int}, "FAISS takes no other"


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(data):
    shutil.copy(ROOT / "params.yaml", data.parent)
    assert refusal(lambda: Recommender.load(data, on="gpu")) == "on = 'gpu': should be cpu, cuda or cuda:N"


def test_users_in_numbers_are_one_for_each_history_and_are_there(recommender):
    assert fpmc.NOBODY == NOBODY
    last = len(recommender.catalogue.user_ids) - 1
    histories = [[0], [3, 1]]
    for rows in ([0, last], np.array([-1, 0], np.int64), None):
        assert recommender.search(histories, rows, k=2)[0].shape == (2, 2)
    for rows in ([0], [[0, 1]], 0, [0.0, 1.0], ["a", "b"]):
        message = refusal(lambda rows=rows: recommender.search(histories, rows, k=2))
        assert message == "users should be a list of 2 rows of users, one for each history"
    for wrong in (-2, last + 1):
        message = refusal(lambda wrong=wrong: recommender.search(histories, [0, wrong], k=2))
        assert message == f"users: no user has the row {wrong}, there are 0 to {last} (and -1 for nobody)"


def test_histories_in_numbers_are_of_items_that_there_are(recommender):
    items_QK, scores_QK = recommender.search([[0], np.array([3, 1], np.int64)], k=4)
    assert items_QK.tolist()[1] == recommender.search([np.array([3, 1], np.int32)], k=4)[0][0].tolist()
    assert items_QK.shape == scores_QK.shape == (2, 4)
    of = "there are 0 to 3"
    for given, message in (
        ([0, -1], f"history 1: no item has the number -1, {of}"),
        ([2, 99999, 4], f"history 1: no item has the number 99999, {of}"),
        ([], "history 1 is empty, and nothing follows from nothing: give at least one item"),
        (["a"], "history 1 should be a list of item numbers: `recommend` takes ids"),
        ([0.5], "history 1 should be a list of item numbers: `recommend` takes ids"),
        (2, "history 1 should be a list of item numbers: `recommend` takes ids"),
    ):
        assert refusal(lambda given=given: recommender.search([[0], given])) == message
    assert refusal(lambda: recommender.recommend([])).startswith("history is empty, and nothing follows from nothing")
    recommender.add_item("Egg")
    assert recommender.search([[4]], k=2)[0].shape == (1, 2)
