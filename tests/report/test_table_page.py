"""The page of a table: its figures are the records' own, in the words of `experiment show`, and what lacks is said."""

from __future__ import annotations

import html as htmllib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.experiments import records
from pipeline.experiments.figures import Figures, figures
from pipeline.experiments.provenance import provenance
from pipeline.experiments.sheet import bucket_sheets, main_sheet, signed
from pipeline.report.table_page import page
from pipeline.retrieval.metrics import short
from stages import experiment
from tests.experiments.kept import COMMIT, LOCK, SEEDS, made_up
from tests.experiments.toy import Toy
from tests.report.test_run_page import cells

from ..conftest import ROOT

SYSTEMS = {"whole": "dueg", "fpmc": "dueg", "unaligned": "dueg", "IDs": "teacher"}


def tables(html: str) -> dict[str, list[list[str]]]:
    """Words of every table's cells by its caption; what only a reader of the screen hears is left out."""
    heard = re.sub(
        r'<span class="sr">.*?</span>|<span class="place".*?</span>|<svg.*?</svg>|<small>.*?</small>', "", html
    )
    found = re.findall(r"<table[^>]*><caption>(.*?)</caption>(.*?)</table>", heard, re.S)
    return {htmllib.unescape(re.sub("<[^>]+>", "", caption)): cells(body) for caption, body in found}


def starting(all_tables: dict[str, list[list[str]]], caption: str) -> dict[str, list[str]]:
    rows = next(rows for words, rows in all_tables.items() if words.startswith(caption))
    return {row[0]: row[1:] for row in rows}


def test_every_figure_is_that_of_the_records_metrics_files(found: Figures) -> None:
    kept = {
        row: [json.loads((folder / "metrics.json").read_text()) for folder in of.values()]
        for row, of in found.records.items()
    }
    shown = tables(page(found))
    compared, each = starting(shown, "Every row"), starting(shown, "NDCG@10 of each seed")
    cold, dots = starting(shown, "NDCG@10 of new items"), starting(shown, "NDCG@10 and its 95 % interval")
    assert set(kept) == set(SYSTEMS)
    for row, files in kept.items():
        of_system = [of["test"][SYSTEMS[row]] for of in files]
        ndcg, recall = ([of[metric] for of in of_system] for metric in ("ndcg@10", "recall@10"))
        for cell, values in zip(compared[row], (ndcg, recall), strict=False):
            assert cell == f"{short(float(np.mean(values)))} ±{short(float(np.std(values, ddof=1)))}"
        assert each[row] == [short(value) for value in ndcg] + ["missing"] * (3 - len(ndcg))
        assert dots[row][-1] == short(float(np.mean(ndcg)))
        for part, cell in zip(("cold_among_all", "cold_among_cold"), cold[row], strict=True):
            values = [of[part][SYSTEMS[row]]["ndcg@10"] for of in files if SYSTEMS[row] in of[part]]
            assert cell == (short(float(np.mean(values))) if values else "-")


def test_words_and_marks_are_those_of_show(found: Figures) -> None:
    html, sheet = page(found), main_sheet(found, narrow=False)
    shown = tables(html)
    assert list(starting(shown, "Every row").items())[2:] == [
        (row[0].text, [cell.text for cell in row[1:]]) for row in sheet.rows
    ]
    for buckets in bucket_sheets(found):
        assert shown[buckets.title] == [buckets.columns, *([cell.text for cell in row] for row in buckets.rows)]
    best = next(row[1].text for row in sheet.rows if row[1].place == 1)
    assert f'<strong>{best}</strong><span class="sr"> best</span>' in html
    differences = starting(shown, "NDCG@10 of each row less that of whole")
    tested = {row.row: signed(row.difference.mean) for row in found.rows if row.difference}
    assert {row: words[-1] for row, words in differences.items() if row in tested} == tested
    assert differences["huge"][-1] == "missing" and "whole" not in differences


def test_the_papers_figures_say_whose_they_are_and_what_differs_comes_first(found: Figures) -> None:
    html = page(found)
    assert "figures of a paper, on F: not ours and not checked" in html[: html.index("<table")]
    head = re.search(r'<table class="sheet">.*?</thead>', html, re.S)
    assert head and '<th scope="colgroup" class="of papers" colspan="2">the paper\'s, on F</th>' in head[0]
    body = html[html.index("</thead>") : html.index("</table>")]
    assert re.findall(r'<td class="papers">(.*?)</td>', body)[:2] == [".2500", ".5000"]


def test_changes_are_beside_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    changes = starting(tables(page(made_up("table5", "demo"))), "Change of NDCG@10 against Molar")
    assert changes["w/o IT"] == [f"{0.214 / 0.215 - 1:+.1%}".replace("%", " %"), "-5.6 %"]


def test_what_was_run_is_read_from_records_alone(found: Figures) -> None:
    first = next(iter(found.records["whole"].values()))
    assert not (first.parents[3] / "data" / "evaluation").exists()
    html = page(found)
    shown = tables(html)
    rows = starting(shown, "What each row sets")
    assert rows["whole"] == ["the params below as they stand"]
    assert rows["fpmc"] == ["train_teacher.model = fpmc (whole: sasrec)"]
    assert rows["IDs"] == ["figures of the system teacher"]
    data = starting(shown, "data")
    assert data["its params"] == ["preset films"] and data["test queries"] == ["300"] and data["users asked"] == ["150"]
    assert data["raw data, DVC's digest"] == ["0123456789ab"] and data["catalogue, DVC's digest"] == ["fedcba987654"]
    runs = next(rows for caption, rows in shown.items() if caption.startswith("Records"))[1:]
    folders = [(row, str(seed), folder.name) for row, of in found.records.items() for seed, folder in of.items()]
    assert [(run[0], run[1], run[3]) for run in runs] == folders and len(runs) == 11
    assert {tuple(run[4:]) for run in runs} == {("1", "1:01", "1")}
    assert f"commit {COMMIT[:10]}<" in html and "seeds 0, 1, 2" in html
    assert "params.yaml of whole, seed 0" in html and "mask_seen: true" in html
    assert "what put the records together" not in html, "these records do not say it"


def test_a_record_that_tells_more_is_shown_with_it(found: Figures, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / "data/evaluation").mkdir(parents=True)
    (clone / "data/catalog").mkdir()
    old = found.records["whole"][0]
    for name in records.KEPT:
        shutil.copy(old / Path(name).name, clone / name)
    split, items = {"users": 1234, "training": 5678}, {"warm": 90, "cold": 10, "with_image": 99}
    (clone / "data/catalog/summary.json").write_text(json.dumps({"split": split, "items": items}))
    folder = records.keep(tmp_path, "a-b", clone, COMMIT, "raw", [records.StageRun("ingest", "computed", 2.0)])
    assert (folder / "dvc.lock").read_text() == LOCK
    origin = provenance(replace(found, records={"whole": {0: folder}}))
    assert origin.data["users"] == "1,234" and origin.data["items, warm and cold"] == "90 + 10"
    assert origin.machine["torch"].startswith("2.") and origin.machine["cores"].isdigit()
    assert origin.kept[0].address == "a-b" and origin.kept[0].took == "0:02"


def test_what_is_missing_is_missing(toy: Toy, found: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    html = page(found)
    assert "<strong>Incomplete.</strong> Not whole, of 3 seeds: unaligned has 2. Missing: huge;" in html
    assert html.count('class="missing"') == 7
    buckets = [rows for caption, rows in tables(html).items() if caption.startswith(("NDCG@10 by", "NDCG@10 of new"))]
    named = [{row[0] for row in rows} for rows in buckets]
    assert len(named) == 3 and all("whole" in names and "huge" not in names for names in named)
    empty = page(figures("toy", "demo", SEEDS))
    assert "nothing has been computed yet" in empty and "params.yaml of" not in empty
    assert {cell for row in starting(tables(empty), "Every row").values() for cell in row} <= {
        "N@10", "NDCG@10", "Recall@10", "NDCG@10 vs whole", "vs whole, 95 %", "p", "missing", "", "-",
        "ours, on demo", "the paper's, on F", ".2500", ".5000",
    }  # fmt: skip


def test_words_of_the_file_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    odd = made_up("table5", "demo")
    table = odd.table.model_copy(update={"title": "a <b>", "note": "`x` & <i>"})
    html = page(replace(odd, table=table))
    assert "<title>a &lt;b&gt;, on demo</title>" in html and "<code>x</code> &amp; &lt;i&gt;" in html


def test_dots_lie_where_their_values_do(found: Figures) -> None:
    html = page(found)
    places = [float(x) for x in re.findall(r'<circle class="mean[^"]*" cx="([\d.]+)%"', html)]
    means = [row.mean("ndcg@10") for row in found.rows if row.seeds]
    slope, start = np.polyfit(np.array(means, float), places[: len(means)], 1)
    assert slope > 0 and np.allclose(np.array(means, float) * slope + start, places[: len(means)], atol=0.02)
    assert all(0 <= x <= 100 for x in places) and len(places) == 4 + 3
    assert html.count('class="seed"') == (3 + 3 + 2 + 3) + (3 + 2 + 3)
    assert html.count('class="mean open"') == sum((row.p_holm or 0) >= 0.05 for row in found.rows)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml")))
def test_every_table_of_the_paper_has_a_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = made_up(name, "demo")
    html = page(found)
    assert all(htmllib.escape(row.row) in html for row in found.rows) and len(html) < 200_000
    assert html.index("<strong>Not the paper's setting.</strong>") < html.index("<table")


def test_the_command_writes_it(toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(toy.root)
    experiment.report("toy", data="films")
    first = Path("toy-films.html").read_text("utf-8")
    assert capsys.readouterr().err.strip().endswith("KB -> toy-films.html")
    experiment.report("toy", Path("other.html"), seeds=3, data="films")
    assert Path("other.html").read_text("utf-8") == first, "the same page twice"
    with pytest.raises(SystemExit):
        experiment.report("toy", Path("nowhere/page.html"), data="films")
    assert "there is no folder nowhere" in capsys.readouterr().err
