"""`pipeline.serving` over the miniature run: the evaluation's lists and ranks, new items that are cold ones, mistakes.

In this process, so that it costs a few seconds: a run is asked in place, or in a copy of its data folder.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import artifacts
from pipeline.mirm.shards import conditioned
from pipeline.serving import Catalogue, Recommender
from stages import build_index
from tests.catalog.shop import ingest, ingest_params, refusal, write_shop

from .project import Project, sorted_files


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    """The run's data and params in a folder that may be edited."""
    root = tmp_path / "copied"
    shutil.copytree(project.root / "data", root / "data", ignore=shutil.ignore_patterns("raw", "world"))
    shutil.copy(project.root / "params.yaml", root)
    return Project(root)


@pytest.fixture(params=["dueg", "sum"])
def served(request: pytest.FixtureRequest, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose index serves the DUEG or the sum; of the latter links to the run's, but for the index."""
    if request.param == "dueg":
        return project.root / "data"
    (tmp_path / "data").mkdir()
    for folder in (project.root / "data").iterdir():
        if folder.name != "index":
            (tmp_path / "data" / folder.name).symlink_to(folder)
    shutil.copy(project.root / "params.yaml", tmp_path)
    Project(tmp_path).set_params({"build_index": {"serve": "sum"}})
    monkeypatch.chdir(tmp_path)
    build_index.main()
    return tmp_path / "data"


@pytest.fixture(scope="module")
def recommender(project: Project) -> Recommender:
    """Of the run in place; nobody adds to it."""
    return Recommender.load(project.root / "data")


def test_every_test_query_has_the_rank_that_the_evaluation_saved(served: Path) -> None:
    recommender = Recommender.load(served)
    catalogue = recommender.catalogue
    name = "sum" if (served / "index/sum.json").exists() else "dueg"
    saved = pq.read_table(served / "evaluation/per_user.parquet").to_pylist()
    assert len(saved) == len(catalogue.user_ids)
    for row in saved:
        history, target = catalogue.history(row["user_id"])[:-1], catalogue.item_ids[row["item_idx"]]
        for variant in ("masked", "unmasked"):
            warm = ~pc.field("cold")  # what the evaluation ranks
            listed = recommender.recommend(history, len(catalogue), where=warm, seen=variant == "unmasked")
            places = dict(zip(listed["item_id"].to_pylist(), listed["rank"].to_pylist(), strict=True))
            rank = places[target] - 1 if target in places else len(catalogue)  # masked: it is of the history
            assert rank == row[f"{name}_{variant}"]


def test_every_list_is_the_evaluation_s_to_the_bit(project: Project, recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    for row in pq.read_table(project.root / "data/evaluation/top.parquet").to_pylist():
        history = catalogue.history(row["user_id"])
        listed = recommender.recommend(history, 50, user=row["user_id"])
        assert listed["item_id"].to_pylist() == [catalogue.item_ids[item] for item in row["items"]]
        user_D, vectors_ND = recommender.embed_user(history), recommender._served.item_vectors()
        assert user_D.dtype == np.float32 and np.allclose(
            listed["score"], (vectors_ND @ user_D)[row["items"]], atol=1e-5
        )
        assert np.allclose(listed["score"], row["scores"], rtol=1e-6, atol=0)  # in a batch, the same but for rounding


def test_lists_leave_out_what_they_are_told_to_and_may_be_short(recommender: Recommender) -> None:
    history = recommender.catalogue.history(recommender.catalogue.user_ids[0])
    whole = recommender.recommend(history, 60)
    assert whole.column_names[:5] == ["rank", "item_id", "title", "score", "text"]
    assert whole.num_rows == len(recommender.catalogue)  # protocol.mask_seen is false
    assert not set(recommender.recommend(history, 60, seen=False)["item_id"].to_pylist()) & set(history)
    ids, brand = whole["item_id"].to_pylist(), whole["brand"].to_pylist()[0]
    rest = recommender.recommend(history, 5, exclude=[ids[0], ids[2]])
    assert rest["item_id"].to_pylist() == [ids[1], *ids[3:7]] and rest["rank"].to_pylist() == [1, 2, 3, 4, 5]
    of_brand = recommender.recommend(history, 60, where=pc.field("brand") == brand)
    assert of_brand["item_id"].to_pylist() == whole.filter(pc.field("brand") == brand)["item_id"].to_pylist()
    assert recommender.recommend(history, 3, where=pc.field("brand") == "nobody's").num_rows == 0


def test_similar_items_are_the_nearest_by_content(project: Project, recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    features_NK = conditioned(artifacts.read(project.root / "data/embeddings", "embed_items"))
    units_NK = features_NK / np.linalg.norm(features_NK, axis=1, keepdims=True)
    cosines_N = units_NK @ units_NK[7]
    listed = recommender.similar(catalogue.item_ids[7], 5)
    order = [item for item in np.argsort(-cosines_N).tolist() if item != 7]
    assert listed["item_id"].to_pylist() == [catalogue.item_ids[item] for item in order[:5]]
    assert np.allclose(listed["score"], cosines_N[order[:5]], atol=1e-5)


def test_a_new_item_is_what_a_cold_one_with_its_words_and_picture_is(served: Path, tmp_path: Path) -> None:
    recommender = Recommender.load(served)
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in sorted_files(served)}
    stored, cold = recommender.catalogue.stored, len(recommender.catalogue) - 1
    twin, history = stored.item_ids[cold], recommender.catalogue.history(recommender.catalogue.user_ids[1])
    old = recommender.recommend(history, 100, seen=True)
    old_user_D = recommender.embed_user(history)

    (tmp_path / "new.png").write_bytes(stored.image_bytes(cold) or b"")
    words = stored.titles[cold], stored.texts[cold]
    new = recommender.add_item(*words, tmp_path / "new.png", attributes=stored.attributes[cold])
    assert new == "new-1" and recommender.catalogue.items.to_pylist()[-1]["cold"]
    now = recommender.recommend(history, 100, seen=True)
    assert np.array_equal(recommender.embed_user(history), old_user_D)
    assert now.filter(pc.field("item_id") != new).drop("rank").equals(old.drop("rank"))  # no other score has moved
    places = now["item_id"].to_pylist()
    assert abs(places.index(new) - places.index(twin)) == 1
    score_of = dict(zip(places, now["score"].to_pylist(), strict=True))
    assert score_of[new] == pytest.approx(score_of[twin], abs=1e-5)
    nearest = recommender.similar(new, 3)
    assert nearest["item_id"].to_pylist()[0] == twin and nearest["score"][0].as_py() == pytest.approx(1, abs=1e-5)
    assert recommender.similar(twin, 3)["item_id"].to_pylist()[0] == new

    mixed = [*history, new], [*history, twin]
    assert np.allclose(*(recommender.embed_user(one) for one in mixed), atol=1e-5)
    assert new not in recommender.recommend([*history, new], 100, seen=False)["item_id"].to_pylist()
    assert recommender.recommend(history, 100, exclude=[new], seen=True).drop("rank").equals(old.drop("rank"))
    assert recommender.recommend(history, 9, where=pc.field("item_id") == new)["score"].to_pylist() == [score_of[new]]
    if (served / "index/sum.json").exists():
        message = "the teacher knows no item of this history, so there is no score sum: add an item that was"
        assert refusal(lambda: recommender.recommend([new])).startswith(message)
    else:
        assert recommender.recommend([new], 3).num_rows == 3
    drawn = Image.open(io.BytesIO(stored.image_bytes(0) or b""))
    assert recommender.add_item("lamp", image=drawn, item_id="mine") == "mine"  # no text, no attributes
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in sorted_files(served)} == before


def test_mistakes_are_one_line(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    known = recommender.catalogue.item_ids[0]
    assert refusal(lambda: recommender.recommend([])).startswith("history is empty")
    assert refusal(lambda: recommender.recommend([known], 0)) == "k = 0: should be at least 1"
    assert refusal(lambda: recommender.recommend([f"{known}x"])).startswith(
        f"history: no item has the id '{known}x': did"
    )
    assert refusal(lambda: recommender.recommend([known], exclude=["?"])).startswith("exclude: no item has the id '?'")
    assert refusal(lambda: recommender.similar("?")).startswith("similar: no item has the id '?'")
    assert refusal(lambda: recommender.recommend([known], user="?")).startswith("no user '?'")
    assert refusal(lambda: recommender.add_item("a", item_id=known)).startswith(f"add_item: there is an item '{known}'")
    assert "there is nothing to embed (embed_items.modality = 'text+image'): give the item a title" in refusal(
        lambda: recommender.add_item("  ")
    )
    assert refusal(lambda: recommender.add_item("a", image=tmp_path / "no.png")).startswith(
        f"add_item: there is no picture file {tmp_path / 'no.png'}"
    )
    assert refusal(lambda: recommender.add_item("a", image=str(tmp_path / "words.png"))) == (
        f"add_item: {tmp_path / 'words.png'} cannot be used: not a picture"
    )
    assert refusal(lambda: recommender.add_item("a", image=b"")) == (
        "add_item: the picture given (0 bytes) cannot be used: picture file is empty"
    )


def test_params_that_are_not_those_of_the_run_add_nothing(copied: Project) -> None:
    copied.set_params({"finetune_mirm": {"modality": "text"}, "embed_items": {"modality": "text"}})
    edited = Recommender.load(copied.root / "data")
    picture = edited.catalogue.image(edited.catalogue.item_ids[0])
    assert refusal(lambda: edited.add_item("lamp", image=picture)) == (
        "add_item: this run reads words alone (embed_items.modality = 'text'): add the item without its picture"
    )
    assert "encoded anew is not what" in refusal(lambda: edited.add_item("lamp"))
    assert len(edited.catalogue) == len(Catalogue.open(copied.root / "data"))


def test_a_run_that_is_not_whole_is_refused(copied: Project, tmp_path: Path) -> None:
    data = copied.root / "data"
    assert refusal(lambda: Recommender.load(tmp_path / "no")).startswith(f"there is no folder {tmp_path / 'no'}: give")
    (data / "mirm").rename(data / "elsewhere")
    loaded = Recommender.load(data)
    item = loaded.catalogue.item_ids[0]
    assert loaded.recommend([item], 3).num_rows == 3  # only new items need the MIRM
    missing = f"{data / 'mirm'} is missing or unfinished: run `dvc repro finetune_mirm`"
    assert refusal(lambda: loaded.add_item("lamp")) == missing
    shutil.rmtree(data / "catalog")
    ingest(ingest_params(write_shop(tmp_path / "raw")), data / "catalog")
    assert refusal(lambda: Recommender.load(data)) == (
        f"{data / 'embeddings'} is of {len(loaded.catalogue)} items and {data / 'catalog'} of 3: they are not of one "
        "run, `dvc repro` makes them one"
    )
    shutil.rmtree(data / "dueg")
    missing = f"{data / 'dueg'} is missing or unfinished: run `dvc repro train_dueg`"
    assert refusal(lambda: Recommender.load(data)) == missing
    (copied.root / "params.yaml").unlink()
    assert refusal(lambda: Recommender.load(data)).startswith(f"{copied.root / 'params.yaml'} not found")
