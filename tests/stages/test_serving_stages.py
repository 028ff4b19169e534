"""The stages from build_index on, end to end over plain arrays in place of trained models."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import artifacts, params
from pipeline.catalog import catalogue
from pipeline.errors import MolarError
from pipeline.recommender import grid, score_sum
from pipeline.report import results
from pipeline.retrieval import index, rank
from pipeline.serving import tables
from pipeline.world import ceiling
from stages import build_index, evaluate, recommend
from tests.report import shelf


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with this project's params.yaml in which the models are plain arrays."""
    loaded = params.load_params()
    smaller = loaded.evaluate.model_copy(update={"oracle": False, "bootstrap": 100})
    monkeypatch.setattr(params, "load_params", lambda *_: loaded.model_copy(update={"evaluate": smaller}))
    monkeypatch.setattr(params, "load_runtime", lambda *_: loaded.runtime.model_copy(update={"device": "cpu"}))
    monkeypatch.chdir(tmp_path)
    for name in ("catalog", "teacher", "embeddings", "dueg"):
        with artifacts.write(tmp_path / "data" / name, items=shelf.ITEMS):
            pass
    warm_N = np.arange(shelf.ITEMS) < shelf.WARM
    models = {"teacher": shelf.PlainRecommender(warm_N, 1), "dueg": shelf.PlainRecommender(warm_N | True, 2)}
    of = shelf.sequences()
    items = SimpleNamespace(
        item_ids=[f"i{n}" for n in range(shelf.ITEMS)],
        titles=[f"Thing {n}" for n in range(shelf.ITEMS)],
        texts=[None] * shelf.ITEMS,
        attributes=[{}] * shelf.ITEMS,
        image_bytes=lambda idx: None,
    )
    monkeypatch.setattr(grid, "load_recommender", lambda artifact, *_: models[artifact.directory.name])
    monkeypatch.setattr(tables, "frozen", lambda model: model)  # an array is one already
    monkeypatch.setattr(catalogue, "open_sequences", lambda artifact: of)
    monkeypatch.setattr(catalogue, "open_cold", lambda artifact: shelf.cold_queries(of))
    monkeypatch.setattr(catalogue, "open_items", lambda artifact: items)
    return tmp_path


@pytest.fixture
def serving_the_sum(shop, monkeypatch):
    """The same with an index of the score sum."""
    loaded = params.load_params()
    asked = loaded.build_index.model_copy(update={"serve": "sum"})
    monkeypatch.setattr(params, "load_params", lambda *_: loaded.model_copy(update={"build_index": asked}))
    build_index.main()
    return shop


def the_sum(shop):
    """The score sum that the index serves, over the arrays that stand for the two models."""
    mix = score_sum.read(artifacts.read(shop / "data" / "index", "build_index"))
    return score_sum.Summed(
        grid.load_recommender(stands_for("teacher")), grid.load_recommender(stands_for("dueg")), mix
    )


def stands_for(name):
    return SimpleNamespace(directory=SimpleNamespace(name=name))


def test_index_then_metrics_then_lists(shop, capsys):
    build_index.main()
    evaluate.main()
    assert artifacts.read(shop / "data" / "index", "build_index").facts["items"] == shelf.ITEMS
    metrics = json.loads((shop / "metrics.json").read_text())
    assert set(metrics["test"]) == {"popularity", "teacher", "dueg", "dueg_index", "sum"}
    assert metrics["test"]["dueg"] == metrics["test"]["dueg_index"]  # flat equals exact
    written = artifacts.read(shop / "data" / "evaluation", "evaluate")
    assert pq.read_table(written.file("top.parquet")).num_rows == shelf.USERS
    assert "dueg_index" in capsys.readouterr().out


def test_evaluation_has_the_same_bytes_twice(shop):
    build_index.main()
    manifests = []
    for _ in range(2):
        evaluate.main()
        manifests.append((shop / "data" / "evaluation" / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]


def test_by_default_the_index_is_of_the_dueg_and_needs_no_teacher(shop):
    (shop / "data" / "teacher").rename(shop / "elsewhere")
    build_index.main()
    written = artifacts.read(shop / "data" / "index", "build_index")
    assert written.facts.keys() - {"files", "schema_version"} == {"kind", "items", "dim"}
    assert written.names == ["items.faiss"]
    dueg, asked = grid.load_recommender(stands_for("dueg")), params.load_params().build_index.model_dump()
    sizes = {name: asked[name] for name in ("ivf_lists", "ivf_probes", "hnsw_neighbours", "hnsw_ef")}
    index.write(index.build(dueg.item_vectors(), dueg.rankable, "flat", **sizes), shop / "by hand")
    assert written.file("items.faiss").read_bytes() == (shop / "by hand").read_bytes()
    recommend.main(user="u003", k=4)


def test_an_index_of_the_sum_says_so_and_evaluation_and_lists_follow(serving_the_sum, capsys):
    written = artifacts.read(serving_the_sum / "data" / "index", "build_index")
    assert written.names == ["items.faiss", "sum.json"] and written.facts["dim"] == 24
    told = json.loads(written.file("sum.json").read_text())
    tried = {row["weight"]: row["ndcg@10"] for row in told["validation"]}
    assert list(tried) == params.load_params().build_index.sum_weights and tried[told["weight"]] == max(tried.values())
    build_index.main()
    said = f"build_index: the sum with {told['weight']:g} of the teacher's score, flat, 60 items"
    assert said in capsys.readouterr().err
    evaluate.main()
    metrics = json.loads((serving_the_sum / "metrics.json").read_text())
    assert set(metrics["test"]) == {"popularity", "teacher", "dueg", "sum", "sum_index"}
    assert metrics["test"]["sum"] == metrics["test"]["sum_index"] != metrics["test"]["dueg"]
    report = json.loads((serving_the_sum / "data" / "evaluation" / "report.json").read_text())
    assert report["sum"]["id_weight"] == told["weight"]
    served, of = the_sum(serving_the_sum), shelf.sequences()
    histories = [of.history(user) for user in range(shelf.USERS)]
    asked = served.user_vectors(histories), served.item_vectors(), params.load_params().evaluate.top_k
    seen = histories if params.load_params().protocol.mask_seen else None
    lists = pq.read_table(serving_the_sum / "data" / "evaluation" / "top.parquet")["items"].to_pylist()
    assert lists == [[item for item in row if item >= 0] for row in rank.top_k(*asked, seen)[0].tolist()]


def test_evaluation_is_the_same_but_for_what_is_served(shop, serving_the_sum, monkeypatch):
    evaluate.main()
    summed = json.loads((shop / "metrics.json").read_text())
    loaded = params.load_params()
    asked = loaded.build_index.model_copy(update={"serve": "dueg"})
    monkeypatch.setattr(params, "load_params", lambda *_: loaded.model_copy(update={"build_index": asked}))
    build_index.main()
    evaluate.main()
    plain = json.loads((shop / "metrics.json").read_text())
    del summed["test"]["sum_index"], plain["test"]["dueg_index"]
    for part in ("cold_among_all", "cold_among_cold"):
        del summed[part]["sum_index"], plain[part]["dueg_index"]
    assert summed == plain


def test_recommend_serves_the_sum_where_the_index_holds_it(serving_the_sum):
    served, of = the_sum(serving_the_sum), shelf.sequences()
    recommend.main(all_users=serving_the_sum / "lists.parquet", k=5, seen=False)
    histories = [of.history(user) for user in range(shelf.USERS)]
    items_UK, scores_UK = rank.top_k(served.user_vectors(histories), served.item_vectors(), 5, histories)
    rows = pq.read_table(serving_the_sum / "lists.parquet").to_pylist()
    assert [row["items"] for row in rows] == items_UK.tolist()
    assert [row["scores"] for row in rows] == scores_UK.tolist()
    assert all(not set(row["items"]) & set(history) for row, history in zip(rows, histories, strict=True))


def test_recommend_of_the_sum_serves_users_and_histories_and_refuses_what_ids_know_nothing_of(serving_the_sum, capsys):
    recommend.main(user="u003", k=4, html=serving_the_sum / "page.html", seen=False)
    assert (serving_the_sum / "page.html").read_text().count('class="rank"') == 4
    recommend.main(history=["Thing 3, i55"], k=60, seen=False)  # the second one is cold
    assert "this history chose 2 items" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        recommend.main(history=["i55"])
    assert "error: the teacher knows no item of this history, so there is no score sum" in capsys.readouterr().err
    (serving_the_sum / "data" / "teacher").rename(serving_the_sum / "elsewhere")
    with pytest.raises(SystemExit):
        recommend.main(user="u003")
    assert "error: data/teacher is missing or unfinished: run `dvc repro train_teacher`" in capsys.readouterr().err


def test_an_index_of_other_models_is_refused(serving_the_sum, monkeypatch, capsys):
    wider = shelf.PlainRecommender(np.ones(shelf.ITEMS, bool), 3)
    wider.items_ND = np.ones((shelf.ITEMS, 13), np.float32)
    before = grid.load_recommender
    monkeypatch.setattr(grid, "load_recommender", lambda a, *_: wider if a.directory.name == "dueg" else before(a))
    with pytest.raises(SystemExit):
        recommend.main(user="u003")
    assert capsys.readouterr().err.strip() == (
        "error: the index holds vectors of 24 numbers and the models now give 25: run `dvc repro build_index`"
    )


def test_recommend_serves_users_histories_and_everyone(shop, capsys):
    build_index.main()
    recommend.main(user="u003", k=4, html=shop / "page.html", seen=False)
    assert "user u003 chose" in capsys.readouterr().out
    assert (shop / "page.html").read_text().count('class="rank"') == 4
    recommend.main(history=["Thing 3, i7"], k=60, seen=False)
    assert "this history chose 2 items" in capsys.readouterr().out
    recommend.main(all_users=shop / "lists.parquet", k=5, seen=False)
    rows = pq.read_table(shop / "lists.parquet").to_pylist()
    of = shelf.sequences()
    assert len(rows) == shelf.USERS
    assert all(not set(row["items"]) & set(of.history(u).tolist()) for u, row in enumerate(rows))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "say whom to recommend for: a user id, --history with titles or ids, or --all FILE.parquet"),
        ({"user": "nobody"}, "no user 'nobody': nothing is spelled like it"),
        ({"user": "u003", "html": Path("no/x.html")}, "no/x.html cannot be written: there is no folder no"),
        ({"user": "u003", "html": Path("data")}, "data cannot be written: it is a folder, name a file in it"),
        ({"all_users": Path("no/x.parquet")}, "no/x.parquet cannot be written: there is no folder no"),
        ({"history": ["Thing 333"]}, "no item has the id or title 'Thing 333': did you mean"),
    ],
)
def test_recommend_says_what_is_wrong_in_one_line_before_a_model_is_loaded(shop, capsys, arguments, message):
    with pytest.raises(SystemExit):
        recommend.main(**arguments)
    assert f"error: {message}" in capsys.readouterr().err


def test_the_oracle_speaks_the_catalogue_s_language():
    truth = SimpleNamespace(
        item_ids=["a", "b", "c"],
        scores=lambda users, steps: np.array([[float(s), 1.0, 2.0] for s in steps]),
        rows={"x": range(0, 3), "y": range(3, 5)},
        item_E=np.array([0, 1, 2, 1, 0]),
    )
    histories = [np.array([1, 2]), np.array([2])]  # of c, a, b: the last choices are cold ones
    of = SimpleNamespace(user_ids=["x", "y"], history=histories.__getitem__)
    queries = catalogue.Queries(np.array([1, 0]), np.array([5, 7]), np.array([0, 0]))
    scorer = evaluate.oracle_of(truth, of, ["c", "a", "b"])(queries)
    assert scorer(slice(0, 2)).tolist() == [[2.0, 5.0, 1.0], [2.0, 7.0, 1.0]]
    with pytest.raises(MolarError) as error:
        evaluate.oracle_of(truth, of, ["c", "z"])
    assert str(error.value) == "item z is not of the demo world: set evaluate.oracle to false for other data"
    with pytest.raises(MolarError) as error:
        evaluate.oracle_of(truth, SimpleNamespace(user_ids=["x", "me"], history=of.history), ["c", "a", "b"])
    assert str(error.value) == "user me is not of the demo world: set evaluate.oracle to false for other data"
    histories[1] = np.array([1])  # without the first choice: the moments have moved
    with pytest.raises(MolarError) as error:
        evaluate.oracle_of(truth, of, ["c", "a", "b"])
    assert str(error.value) == (
        "user y of the demo world chose otherwise than the catalogue says: ingest the world without filters and with "
        "its own cold items, or set evaluate.oracle to false"
    )


def test_the_ceiling_sees_the_history_before_the_query_in_the_world_s_own_columns(monkeypatch):
    truth = SimpleNamespace(
        item_ids=["a", "b", "c"], rows={"x": range(0, 3), "y": range(3, 5)}, cold_E=np.array([0, 0, 1, 0, 1])
    )
    of = SimpleNamespace(user_ids=["x", "y"], history=lambda user, end: np.array([[1, 2], [2, 2]])[user][:end])
    asked = [catalogue.Queries(np.array(u), np.array(e), np.array(u)) for u, e in (([1, 0], [0, 1]), ([0], [2]))]
    given = {}

    def scores(self, histories, is_cold):
        given.update(histories=[history.tolist() for history in histories], is_cold=is_cold)
        return np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)

    monkeypatch.setattr(ceiling, "Ceiling", lambda truth, states: SimpleNamespace(scores=partial(scores, None)))
    rankers = evaluate.ceilings_of(truth, of, ["c", "a", "b"], asked, 8)
    assert given == {"histories": [[], [0], [0, 1]], "is_cold": [False, False, True]}
    assert rankers["ceiling"](asked[1])(slice(0, 1)).tolist() == [[8 + 17, 6 + 15, 7 + 16]]
    one, other = (rankers[run](asked[0])(slice(0, 2)).tolist() for run in results.CEILING_RUNS)
    assert one == [[2, 0, 1], [5, 3, 4]] and other == [[11, 9, 10], [14, 12, 13]]
