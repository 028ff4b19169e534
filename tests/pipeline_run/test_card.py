"""The model card of the miniature run: its figures are metrics.json's, its digests dvc.lock's, and it is of one run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.report import card
from pipeline.report.card_run import opened
from pipeline.retrieval.metrics import short
from tests.catalog.shop import refusal

from .project import Project

KEPT = ("metrics.json", "data/evaluation/per_user.parquet", "params.yaml", "dvc.lock")  # by a record of an experiment


def tables(text: str) -> list[list[list[str]]]:
    """Every table of the Markdown: rows of cells, the header first."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    rows = [[[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()] for block in blocks]
    return [[table[0], *table[2:]] for table in rows]


@pytest.fixture
def record(project: Project, tmp_path: Path) -> Path:
    folder = tmp_path / "record"
    folder.mkdir()
    for name in KEPT:
        shutil.copy(project.root / name, folder)
    return folder


def test_every_figure_is_that_of_metrics_json(project: Project, tmp_path: Path) -> None:
    card.write(project.root, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    metrics = json.loads((project.root / "metrics.json").read_text())
    report = json.loads((project.root / "data/evaluation/report.json").read_text())
    shown = [table for table in tables(text) if table[0][0] == "system"]
    assert len(shown) == 3
    for part, (header, *rows) in zip(("test", "cold_among_all", "cold_among_cold"), shown, strict=True):
        assert {row[0].strip("*") for row in rows} == set(metrics[part])
        for name, *cells in rows:
            of, errors = metrics[part][name.strip("*")], report[part]["unmasked"]["systems"][name.strip("*")]
            wanted = [of["ndcg@10"], errors["standard_error"]["ndcg@10"]]
            wanted += [of["recall@10"], errors["standard_error"]["recall@10"]]
            wanted += [of[key] for key in header[5:]]
            assert cells == [short(figure) for figure in wanted]
    for about, of in metrics["difference"].items():
        assert f"{of['mean']:+.4f}, 95 % interval over users {of['low']:+.4f} to {of['high']:+.4f}" in text, about
    front = YAML(typ="safe").load(text.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]} == {
        key: metrics["test"]["dueg_index"][key] for key in ("ndcg@10", "recall@10")
    }
    assert front["license"] == "apache-2.0"


def test_digests_params_statistics_and_commit_are_the_run_s(project: Project, tmp_path: Path) -> None:
    card.write(project.root, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    found = {row[0]: row[1:] for table in tables(text) for row in table}
    lock = YAML(typ="safe").load((project.root / "dvc.lock").read_text())["stages"]
    for stage, entry in lock.items():
        for out in entry["outs"]:
            assert found[f"`{out['path']}`"] == [stage, f"`{out['md5']}`", f"{out['size']:,}"]
    told = YAML(typ="safe").load(text.split("```yaml\n")[1].split("```")[0])
    assert told["demo"]["items"] == 60 and "runtime" not in told
    summary = json.loads((project.root / "data/catalog/summary.json").read_text())
    assert found["training interactions"] == [f"{summary['split']['training']:,}"]
    assert f"Code: commit `{project.run('git', 'rev-parse', 'HEAD').strip()}`. params.yaml" in text
    assert str(project.root) not in text and "drawn at random" in text


def test_a_record_has_the_same_figures_without_its_data(project: Project, record: Path) -> None:
    whole, kept = opened(project.root), opened(record, commit="abc")
    assert kept.metrics == whole.metrics and kept.commit == "commit `abc`"
    for name, errors in whole.errors["test"].items():
        assert kept.errors["test"][name] == pytest.approx({key: errors[key] for key in errors}, abs=1e-6)
    text = card.text(kept)
    shown = [table for table in tables(text) if table[0][0] == "system"]
    assert [{row[2] for row in rows} == {"-"} for _, *rows in shown] == [False, True, True]  # errors of cold queries
    assert "Statistics: not at hand" in text


def test_the_card_that_goes_with_a_record_follows_from_the_record_alone(project: Project, record: Path) -> None:
    shutil.copy(project.root / "data/catalog/summary.json", record)
    about = {"commit": "def", "stages": [], "machine": {"cores": "2", "torch": "9.9"}}
    (record / "record.json").write_text(json.dumps(about))
    text, of_run = card.of_record(record, {"data/catalog": "a licence"}), card.text(opened(project.root))
    data = re.compile(r"^## Data\n.*?^## ", re.M | re.S)
    assert data.search(text)[0] == data.search(of_run)[0], "statistics included"
    assert "Code: commit `def`. params.yaml" in text and "had others): torch 9.9." in text
    assert not re.search(r"\bcores\b", text)
    assert "listing). Not passed on: `data/catalog` (a licence)." in text and "after `molar experiment pull`" in text
    (record / "README.md").write_text("of an earlier push")
    assert card.of_record(record, {"data/catalog": "a licence"}) == text
    assert "license: mit\n" in card.of_record(record, {}, "mit")


def test_files_that_are_not_of_one_run_are_refused(record: Path, tmp_path: Path) -> None:
    params, metrics, lock = ((record / name) for name in ("params.yaml", "metrics.json", "dvc.lock"))
    card.write(record, tmp_path / "card.md")
    assert refusal(lambda: card.write(record, tmp_path / "no/card.md")).endswith(
        f"there is no folder {tmp_path / 'no'}"
    )
    (tmp_path / "README.md").write_text("# A project")
    assert refusal(lambda: card.write(record, tmp_path / "README.md")).endswith(
        "no model card: give the card another name"
    )
    Project(record).set_params({"runtime": {"workers": 0}})
    card.write(record, tmp_path / "card.md")  # of the machine, not of the run
    Project(record).set_params({"train_dueg": {"alignment": {"weight": 0.25}}})
    assert refusal(lambda: card.write(record, tmp_path / "card.md")).startswith(
        f"{params}: train_dueg is not what train_dueg ran with, as dvc.lock says: run `dvc repro`"
    )
    Project(record).set_params({"train_dueg": {"alignment": {"weight": 1.0}}})
    old = metrics.read_text()
    metrics.write_text(old.replace("0.", "0.1", 1))
    assert refusal(lambda: card.write(record, tmp_path / "card.md")) == (
        f"{metrics} is not the one that dvc.lock records: run `dvc repro evaluate`"
    )
    metrics.unlink()
    assert refusal(lambda: card.write(record, tmp_path / "card.md")).startswith(f"{metrics} not found: a finished run")
    lock.unlink()
    assert refusal(lambda: card.write(record, tmp_path / "card.md")).startswith(f"{lock} not found: a finished run")
