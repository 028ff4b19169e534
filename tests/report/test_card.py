"""What a card says of runs of every kind: conditions of the data, backbones, limits; no local path is told."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.catalog.licences import UNKNOWN, of_data
from pipeline.errors import MolarError
from pipeline.params import load_params
from pipeline.report import card, card_words
from pipeline.report.card_run import Run, opened, withheld
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "params.yaml")
FIGURES = {"ndcg@10": 0.25, "recall@10": 0.5, "coverage@10": 0.75, "gini@10": 0.5, "debiased ndcg@10": 0.125}


def changed(**sections):
    """The project's params with some keys of some sections changed."""
    return PARAMS.model_copy(
        update={name: getattr(PARAMS, name).model_copy(update=keys) for name, keys in sections.items()}
    )


def run(params=PARAMS, mirm=None, cold=True, better=()):
    names = ("popularity", "teacher", "dueg", "sum", f"{params.build_index.serve}_index")
    test = {name: FIGURES | {"ndcg@10": 0.5 if name in better else 0.25} for name in names}
    metrics = {"test": test, "difference": {"dueg-teacher ndcg@10": {"mean": 0.0, "low": -0.1, "high": 0.1}}}
    metrics |= {part: {names[-1]: FIGURES} for part in ("cold_among_all", "cold_among_cold")} if cold else {}
    values = params.model_dump(mode="json")
    return Run(params, values, "0" * 64, {}, metrics, {}, None, mirm, "commit `abc`", 0)


def front(text):
    return YAML(typ="safe").load(text.split("---\n")[1])


@pytest.mark.parametrize(
    ("ingest", "title", "words"),
    [
        ({}, "the demo world", "drawn by this project's own program"),
        (
            {"source": "movielens", "path": "data/raw/ml-1m", "published": "ml-1m"},
            "MovieLens 1M",
            "GroupLens: research",
        ),
        ({"source": "movielens", "path": "data/raw/ml-32m"}, "ml-32m", "passing on under the same conditions"),
        ({"source": "amazon", "path": "x", "published": "amazon-2023-Video_Games"}, "Video_Games", "states no licence"),
        ({"source": "pixelrec", "path": "x", "published": "pixelrec-50k"}, "PixelRec 50K", "forbids altered copies"),
        ({"source": "amazon", "path": "x", "published": "molar-amazon"}, "Molar's Amazon", UNKNOWN),
        ({"path": "data/raw/shop"}, "shop", UNKNOWN),
    ],
)
def test_conditions_of_the_data_are_told_or_called_unknown(ingest, title, words):
    params = changed(ingest=ingest)
    known, text = of_data(params.ingest), card.text(run(params))
    assert known.data.endswith(title) and words in known.words and words in text
    says = front(text)
    if known.ours:
        assert says["license"] == "apache-2.0"
    else:
        assert (says["license"], says["license_name"]) == ("other", "unknown")
        assert front(card.text(run(params), "cc-by-4.0"))["license"] == "cc-by-4.0"
        assert "demo world" not in text


def test_limits_are_those_of_the_very_run():
    demo = card.text(run())
    assert "drawn at random" in demo and "the demo world: users, items and pictures are drawn" in demo
    assert "NDCG@10 .2500 among cold items alone" in demo and "had a higher" not in demo
    other = changed(ingest={"path": "shop"}, build_index={"serve": "sum"}, finetune_mirm={"backbone": "Qwen/Qwen2-VL"})
    text = card.text(
        run(other, {"backbone": {"hub": "Qwen/Qwen2-VL", "revision": "main"}}, cold=False, better=["dueg"])
    )
    assert front(text)["base_model"] == "Qwen/Qwen2-VL" and "(Qwen/Qwen2-VL at main, all of it fine-tuned)" in text
    assert "drawn at random" not in text and "no cold item was held out" in text and "**sum_index**" in text
    assert "On the test queries dueg had a higher NDCG@10" in text and "a history of such items alone cannot" in text
    by_id = card.text(run(changed(train_dueg={"items": "id"})))
    assert "a new or cold item cannot be ranked" in by_id and "drawn at random" not in by_id
    unaligned = changed(train_dueg={"alignment": PARAMS.train_dueg.alignment.model_copy(update={"weight": 0.0})})
    assert "the alignment's weight is 0" in card.text(run(unaligned))
    assert "Frozen content encoders (text)" in card.text(run(changed(embed_items={"encoder": "text"})))


def test_no_path_of_a_machine_is_told():
    params = changed(ingest={"path": "/srv/ann/shop"}, finetune_mirm={"backbone": "/srv/ann/qwen"})
    text = card.text(run(params, {"backbone": {"sha256": "ab" * 32}}))
    assert "/srv" not in text and "path: '.../shop'" in text and f"a local folder, SHA-256 {'ab' * 32}" in text
    assert card_words.backbone(params, None) == "a local folder"


def test_the_params_are_told_but_those_of_the_machine():
    told = YAML(typ="safe").load(card.text(run()).split("```yaml\n")[1].split("```")[0])
    assert told == {key: value for key, value in run().values.items() if key != "runtime"}


def test_what_is_held_back_is_told_and_how_to_do_without(tmp_path):
    lock = {"ingest": {"deps": [{"path": "data/raw/shop"}], "outs": [{"path": "data/catalog", "md5": "x", "size": 1}]}}
    of = replace(run(changed(ingest={"path": "data/raw/shop"})), lock=lock)
    assert "`dvc pull` fetches them; " in card.text(of) and "after `dvc pull`:" in card.text(of)
    assert withheld(tmp_path, of) == {}, "neither Git nor dvc.yaml"
    (tmp_path / "dvc.yaml").write_text(
        "stages: {ingest: {deps: ['${ingest.path}'], outs: [data/catalog: {push: false}]}}"
    )
    assert withheld(tmp_path, of) == {"data/catalog": "dvc.yaml says push: false"}
    of = replace(of, values=of.values | {"runtime": {"share_data": False}})
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/shop.dvc").write_text("outs: [{path: shop}]")
    held = withheld(tmp_path, of)
    assert set(held) == {"data/catalog", "data/raw/shop"}
    text = card.text(replace(of, held_back=held))
    assert "`dvc pull` fetches them, but for what is not passed on; " in text
    assert "Not passed on: `data/catalog` (dvc.yaml says push: false), `data/raw/shop` (runtime." in text
    assert "after `dvc pull --allow-missing`, then `dvc repro ingest` over your own copy of the raw data" in text
    text = card.text(replace(of, held_back=held, machine={}))
    assert "`dvc checkout --allow-missing`, then `dvc repro ingest` over" in text


def test_code_that_made_the_run_and_was_never_committed_is_told(tmp_path):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    names = ("kept", "edited", "new", "later")
    files = [tmp_path / f"{name}.py" for name in names]
    git("init", "-q")
    for path in files:
        path.write_text("1")
    git("add", "kept.py", "edited.py", "later.py")
    git("-c", "user.name=t", "-c", "user.email=t", "commit", "-qm", "code")
    files[1].write_text("2")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"test": {"dueg": FIGURES}, "difference": {}}))
    pairs = [(of.name, hashlib.md5(of.read_bytes()).hexdigest()) for of in (*files, metrics)]
    entries = [{"path": path, "md5": md5, "size": 1} for path, md5 in pairs]
    (tmp_path / "dvc.lock").write_text(
        json.dumps({"stages": {"evaluate": {"deps": entries[:-1], "outs": entries[-1:]}}})
    )
    files[3].write_text("2")
    found = opened(tmp_path)
    assert found.commit.endswith("` with 2 uncommitted files") and found.changed == 1
    git("add", "edited.py", "new.py")
    git("-c", "user.name=t", "-c", "user.email=t", "commit", "-qm", "more")
    assert opened(tmp_path).commit.endswith("`")


def test_a_cell_may_hold_what_ends_one():
    assert card.table(["a"], [["b|c"]]) == "| a |\n| --- |\n| b\\|c |"


def test_a_card_takes_no_place_of_another_thing(tmp_path):
    (tmp_path / "notes.md").write_text("my notes")
    for place in (tmp_path / "notes.md", Path("/dev/zero")):  # a device is never read: this one has no end
        with pytest.raises(MolarError, match="is there and is no model card"):
            card.write(tmp_path, place)
    assert (tmp_path / "notes.md").read_text() == "my notes"
