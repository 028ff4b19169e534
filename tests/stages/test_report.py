"""`molar report` over plain arrays in place of trained models: a page from what the stages saved, or one line."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest

from pipeline import artifacts, params
from pipeline.errors import MolarError
from pipeline.mirm import shards
from stages import build_index, evaluate, report
from tests.report import shelf
from tests.stages.test_serving_stages import shop  # noqa: F401

SUMMARY = {
    "split": {"users": 9, "training": 1000, "test": 9, "cold": 3},
    "items": {"warm": 20, "cold": 5, "with_image": 25},
    "sequence_length": {"mean": 7.25},
}


def rewritten(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    with artifacts.write(folder) as out:
        for name, text in files.items():
            (out / name).write_text(text)


def ranked_where_evaluate_has_them(page):
    """Each example's hit stands in its list at the rank that evaluate saved."""
    examples = page.split('class="example"')[1:]
    for one in examples:
        rank = int(re.search(r"was ranked ([\d,]+)", one)[1].replace(",", ""))
        recommended = one.split("Recommended")[1].split("</ol>")[0].split("<li")[1:]
        marked = [place for place, tile in enumerate(recommended, 1) if 'class="hit"' in tile]
        assert marked == ([rank] if rank <= report.LIST else [])


@pytest.fixture
def run(shop, monkeypatch):  # noqa: F811
    """Everything that the report reads."""
    data, curve = shop / "data", "epoch\tndcg@10\n1\t0.1\n2\t0.2\n"
    rewritten(data / "catalog", {"summary.json": json.dumps(SUMMARY)})
    rewritten(data / "teacher", {"curve.tsv": curve})
    rewritten(data / "dueg", {"curve.tsv": curve})
    rewritten(data / "mirm", {"losses.tsv": "step\tkind\tloss\n1\timage_text\t3.5\n2\timage_text\t2.5\n"})
    vectors_ND = np.random.default_rng(0).normal(size=(shelf.ITEMS, 6)).astype(np.float32)
    for name in ("read_embeddings", "conditioned"):
        monkeypatch.setattr(shards, name, lambda artifact: vectors_ND)
    (shop / "params.yaml").write_text("seed: 0\n")
    build_index.main()
    evaluate.main()
    return shop


def test_the_page_tells_what_the_stages_saved(run, capsys):
    report.main(run / "page.html", examples=4)
    page = (run / "page.html").read_text()
    saved = json.loads((run / "data/evaluation/report.json").read_text())
    figure = saved["test"][saved["headline"]]["systems"]["dueg"]["ndcg@10"]
    assert f"NDCG@10 {figure:.4f}" in re.search("<title>(.*)</title>", page)[1]
    assert page.count('class="example"') == 4 and page.count('class="near"') == report.ROWS
    assert "9" in page and "1,000" in page and "seed: 0" in page
    for folder in report.STAGES.values():
        assert artifacts.sha256(folder / artifacts.MANIFEST)[:16] in page
    assert capsys.readouterr().err.strip().endswith("page.html")
    before = page
    report.main(run / "page.html", examples=4)
    assert (run / "page.html").read_text() == before


def test_params_and_figures_of_two_runs_are_refused(run, capsys):
    digest = hashlib.md5((run / "metrics.json").read_bytes(), usedforsecurity=False).hexdigest()
    stage = {"params": {"params.yaml": {"seed": 0}}, "outs": [{"path": "metrics.json", "md5": digest}]}
    (run / "dvc.lock").write_text(json.dumps({"stages": {"evaluate": stage}}))  # JSON is YAML
    report.main(run / "page.html", examples=0)
    (run / "page.html").unlink()
    (run / "params.yaml").write_text("seed: 1\n")
    capsys.readouterr()
    for said in (
        "params.yaml: seed is not what evaluate ran with",
        "metrics.json is not the one that dvc.lock records",
    ):
        with pytest.raises(SystemExit):
            report.main(run / "page.html")
        assert capsys.readouterr().err.startswith(f"error: {said}")
        (run / "params.yaml").write_text("seed: 0\n")
        (run / "metrics.json").write_text("{}")
    assert not (run / "page.html").exists()


def test_an_example_s_hit_is_where_evaluate_ranked_it(run):
    report.main(run / "page.html", examples=6)
    ranked_where_evaluate_has_them((run / "page.html").read_text())


def test_where_the_sum_is_served_the_page_is_about_the_sum(run, monkeypatch):
    loaded = params.load_params()
    serving = loaded.build_index.model_copy(update={"serve": "sum"})
    monkeypatch.setattr(params, "load_params", lambda: loaded.model_copy(update={"build_index": serving}))
    build_index.main()
    evaluate.main()
    report.main(run / "page.html", examples=6)
    page = (run / "page.html").read_text()
    saved = json.loads((run / "data/evaluation/report.json").read_text())
    figure = saved["test"][saved["headline"]]["systems"]["sum"]["ndcg@10"]
    assert f", sum: NDCG@10 {figure:.4f}" in re.search("<title>(.*)</title>", page)[1]
    assert '<tr class=strong><th scope="row">sum</th>' in page
    ranked_where_evaluate_has_them(page)


def test_a_run_without_fine_tuning_has_no_losses(run):
    rewritten(run / "data/mirm", {"model.safetensors": ""})
    report.main(run / "page.html")
    assert "MIRM, loss" not in (run / "page.html").read_text()


def test_mistakes_are_one_line(run):
    with pytest.raises(SystemExit):
        report.main(run / "nowhere" / "page.html")
    shutil.rmtree(run / "data/index")
    with pytest.raises(SystemExit):
        report.main(run / "page.html")
    assert not (run / "page.html").exists()


def test_an_evaluation_of_another_catalogue_is_refused(run):
    from pipeline.catalog.catalogue import Queries

    of = shelf.sequences()
    queries = of.queries("test")
    fewer = Queries(queries.user[:-1], queries.end[:-1], queries.target[:-1])
    path = artifacts.read(run / "data/evaluation", "evaluate").file("per_user.parquet")
    with pytest.raises(MolarError, match="are not of one run: run `dvc repro evaluate`"):
        report._ranks(path, "dueg_unmasked", of, fewer)
