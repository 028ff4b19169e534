"""`molar experiment show`: its figures are the naive ones, and what is missing is shown as missing."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import MolarError
from pipeline.experiments.committed import Committed
from pipeline.experiments.figures import FLIPS, Figures, figures
from pipeline.experiments.formats import written
from pipeline.experiments.points import points_of
from pipeline.experiments.records import durations, machine, put
from pipeline.experiments.sheet import bucket_sheets, main_sheet, notes, signed
from pipeline.experiments.table import load_table
from pipeline.report.table_page import page
from pipeline.retrieval.luck import luck
from pipeline.retrieval.metrics import HISTORY_EDGES, POPULARITY_EDGES, by_bucket, ndcg_at, recall_at
from pipeline.retrieval.significance import holm, sign_flip

from ..conftest import ROOT
from .kept import QUERIES, SEEDS, made_up, ranks, record, shown
from .toy import Toy, made


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return shown(tmp_path_factory.mktemp("shown") / "checkout")


@pytest.fixture
def found(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Figures:
    monkeypatch.chdir(toy.root)
    return figures("toy", "films")


def test_means_and_deviations_are_over_seeds(found: Figures) -> None:
    rows = {row.row: row for row in found.rows}
    naive = [float(np.mean(ndcg_at(ranks("fpmc", seed), 10))) for seed in SEEDS]
    assert rows["fpmc"].mean("ndcg@10") == pytest.approx(np.mean(naive))
    assert rows["fpmc"].deviation("ndcg@10") == pytest.approx(np.sqrt(np.var(naive) * 3 / 2))
    teacher = [float(np.mean(recall_at(ranks("whole", seed) + 1, 20))) for seed in SEEDS]
    assert rows["IDs"].mean("recall@20") == pytest.approx(np.mean(teacher)), "the row's system is the teacher"
    assert rows["unaligned"].seeds == [0, 1]
    assert (rows["huge"].seeds, rows["huge"].mean("ndcg@10")) == ([], None)
    assert found.masked and (found.users, found.queries) == (QUERIES // 2, QUERIES)


def test_the_test_is_of_users_averaged_over_the_seeds_that_both_have_and_corrected(found: Figures) -> None:
    users_Q = np.arange(QUERIES) // 2

    def values(row: str, seeds: range) -> np.ndarray:
        """(S, Q)."""
        shown, worse = ("whole", 1) if row == "IDs" else (row, 0)
        return np.array([ndcg_at(ranks(shown, seed) + worse, 10) for seed in seeds])

    by_luck = luck(np.array([values(each, SEEDS) for each in ("whole", "fpmc", "IDs")]), users_Q)
    assert by_luck is not None and found.luck is not None and (by_luck.degrees, by_luck.seeds) == (4, 3)
    assert astuple(found.luck) == pytest.approx(astuple(by_luck))

    def p_of(row: str, seeds: range) -> float:
        ours, theirs = (values(each, seeds).mean(axis=0) for each in (row, "whole"))
        return sign_flip(ours, theirs, users_Q, FLIPS, luck_R=replace(by_luck, seeds=len(seeds)).draws(FLIPS))

    p = {"fpmc": p_of("fpmc", SEEDS), "unaligned": p_of("unaligned", range(2)), "IDs": p_of("IDs", SEEDS)}
    rows = {row.row: row for row in found.rows}
    assert {row: rows[row].p for row in p} == pytest.approx(p)
    assert {row: rows[row].p_holm for row in p} == pytest.approx(holm(p))
    assert p["fpmc"] < 0.001 < p["unaligned"]
    assert rows["fpmc"].difference is not None and rows["fpmc"].difference.high < 0
    assert rows["whole"].p_holm is rows["huge"].p_holm is None


def test_buckets_are_those_of_an_evaluation(found: Figures) -> None:
    row = next(row for row in found.rows if row.row == "fpmc")
    values = {
        "training interactions of the target": (np.arange(QUERIES) % 25, POPULARITY_EDGES),
        "items of history": (np.arange(QUERIES) % 70 + 1, HISTORY_EDGES),
    }
    for kind, (values_Q, edges) in values.items():
        each = [by_bucket(ranks("fpmc", seed), values_Q, edges, [10]).values() for seed in SEEDS]
        naive = np.mean([[bucket["ndcg@10"] for bucket in of_seed] for of_seed in each], axis=0)
        assert row.buckets[kind] == pytest.approx(naive)
        assert found.bucket_sizes[kind] == [bucket["queries"] for bucket in each[0]]


def test_new_items_are_those_of_metrics_json_and_errors_are_over_users(found: Figures) -> None:
    rows = {row.row: row for row in found.rows}
    naive = [round(float(ndcg_at(ranks("fpmc", seed) // 2, 10).mean()), 6) for seed in SEEDS]
    assert rows["fpmc"].cold["cold_among_cold"] == pytest.approx(naive)
    assert len(rows["unaligned"].cold["cold_among_all"]) == 2 and rows["IDs"].cold == rows["huge"].cold == {}
    sheet = bucket_sheets(found)[-1]
    assert sheet.columns == ["row", "among all items", "among new items alone"]
    assert [row[0].text for row in sheet.rows] == ["whole", "fpmc", "unaligned", "IDs"], "huge has not been run"
    assert sheet.rows[3][1].text == "-"
    value_U = np.mean([ndcg_at(ranks("whole", seed), 10) for seed in SEEDS], axis=0).reshape(-1, 2).mean(axis=1)
    assert rows["whole"].error == pytest.approx(np.std(value_U, ddof=1) / np.sqrt(len(value_U)))


def test_a_row_of_one_seed_counts_the_luck_that_the_others_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its test would else see the users' chance alone, under a note that says otherwise."""
    toy = made(tmp_path / "checkout", dvc=False)
    monkeypatch.chdir(toy.root)
    lucky = {("fpmc", 0): 3, ("fpmc", 1): -3, ("whole", 0): -3, ("whole", 2): 3, ("unaligned", 0): 2}
    for point in points_of("toy", load_table("toy"), Committed(toy.root), "films", SEEDS):
        if point.row in ("whole", "fpmc") or (point.row, point.seed) == ("unaligned", 0):
            record(
                toy, point, np.maximum(0, ranks("whole", 0) + lucky.get((point.row, point.seed), 0)).astype(np.int32)
            )
    found = figures("toy", "films")
    row = next(row for row in found.rows if row.row == "unaligned")
    assert row.seeds == [0] and found.luck is not None and found.luck.deviation > 0.02
    assert row.p is not None and row.p > 0.05 and row.difference is not None
    assert row.difference.low < 0 < row.difference.high
    alone = next(row for row in figures("toy", "films", [0]).rows if row.row == "unaligned")
    assert alone.p is not None and alone.p < 0.001, "of one seed alone nothing is known, which the note says"


@pytest.mark.parametrize(("seeds", "known"), [(((0, 1, 2), (0, 1, 3)), True), (((0,), (0, 1, 2)), False)])
def test_luck_is_told_by_the_seeds_that_rows_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[tuple[int, ...], ...], known: bool
) -> None:
    toy = made(tmp_path / "checkout", dvc=False)
    monkeypatch.chdir(toy.root)
    rows = dict(zip(("whole", "unaligned"), seeds, strict=True))
    for point in points_of("toy", load_table("toy"), Committed(toy.root), "films", range(4), list(rows)):
        if point.seed in rows[point.row]:
            record(toy, point, ranks(point.row, point.seed))
    found = figures("toy", "films")
    assert (found.luck is not None) == known
    assert (" Neither counts the luck of seeds" in " ".join(notes(found))) == (not known)


def test_another_reference_and_names_that_nothing_has(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    against = figures("toy", "films", against="fpmc")
    assert [row.row for row in against.rows if row.difference] == ["whole", "unaligned", "IDs"]
    missing = figures("toy", "films", SEEDS, against="huge")
    assert not any(row.difference for row in missing.rows)
    assert "No tests: huge, the row to test against, is missing." in notes(missing)
    with pytest.raises(MolarError, match="has no row 'none'"):
        figures("toy", "films", SEEDS, against="none")
    with pytest.raises(MolarError, match="the row 'huge' does not apply to the data set 'demo'"):
        figures("toy", "demo", SEEDS, against="huge")


def test_fewer_seeds_than_there_are(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    assert [row.seeds for row in figures("toy", "films", [1]).rows] == [[1], [1], [1], [1], []]


def test_a_row_ranked_among_other_items_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = made(tmp_path / "checkout", dvc=False)
    monkeypatch.chdir(toy.root)
    path = toy.root / "experiments" / "toy.yaml"
    path.write_text(
        path.read_text().replace("unaligned:\n    set: {", "unaligned:\n    set: {protocol.mask_seen: false, ")
    )
    for point in points_of("toy", load_table("toy"), Committed(toy.root), "films", [0], ["whole", "unaligned"]):
        folder = record(toy, point, ranks(point.row, 0))
        if point.row == "unaligned":
            table = pq.read_table(folder / "per_user.parquet")
            names = [name.replace("_masked", "_unmasked") for name in table.column_names]
            pq.write_table(table.rename_columns(names), folder / "per_user.parquet")
    found = figures("toy", "films")
    assert found.odd == ["unaligned"] and found.masked
    assert not figures("toy", "films", against="unaligned").masked


def test_nothing_computed_is_a_table_of_missing_rows(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    empty = figures("toy", "demo", SEEDS)
    text = written(empty, "terminal", buckets=True)
    assert text.count("missing") >= 8 and "Missing: whole, fpmc, unaligned, IDs; `molar experiment run toy" in text
    assert written(empty, "csv", buckets=True).count("\n") == 5


def test_rows_that_were_asked_other_queries_are_left_out_and_named(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    odd = points_of("toy", load_table("toy"), Committed(toy.root), "demo", [0])
    for shift, point in enumerate({p.address: p for p in odd}.values()):
        folder = record(toy, point, ranks("whole", 0), shift)
        table = pq.read_table(folder / "per_user.parquet")
        table = table.rename_columns([name.replace("_masked", "_unmasked") for name in table.column_names])
        pq.write_table(table, folder / "per_user.parquet")
    found = figures("toy", "demo", SEEDS)
    assert found.odd == ["fpmc", "unaligned"] and [row.row for row in found.rows] == ["whole", "IDs"]
    assert notes(found)[-1] == "Left out, for their records have other test queries or another mask: fpmc, unaligned."
    against = figures("toy", "demo", SEEDS, against="fpmc")
    assert [row.row for row in against.rows] == ["fpmc"], "the reference stays"


DAMAGES = {
    "per_user.parquet": (b"PAR1 and no more", "has a per_user.parquet that is cut short"),
    "metrics.json": (None, "has no metrics.json"),
    "record.json": (b'{"commit": ', "holds a file that cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_is_named_and_counts_as_absent(
    toy: Toy, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(toy.root)
    folder = figures("toy", "films").records["fpmc"][1]
    before, (content, problem) = (folder / name).read_bytes(), DAMAGES[name]
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    try:
        assert page(figures("toy", "films")).count("has 2") == 2
        assert list(figures("toy", "films").records["fpmc"]) == [0, 2]
        said = f"mind: the record {folder.name} {problem}: it counts as absent, `molar experiment run` makes it anew\n"
        assert capsys.readouterr().err == 2 * said
    finally:
        (folder / name).write_bytes(before)


def test_what_a_stage_takes_is_told_by_records_of_the_same_data_and_such_a_machine(tmp_path: Path) -> None:
    stages = [{"stage": "evaluate", "source": "computed", "seconds": 61}, {"stage": "ingest", "source": "from cache"}]
    about = {"commit": "c0ffee", "data": "data/raw/demo", "stages": stages, "machine": machine()}
    slower = about | {"stages": [stages[0] | {"seconds": 65}]}
    others = [about | {"data": "data/raw/ml-1m"}, about | {"machine": about["machine"] | {"cores": "96"}}]
    before = {"commit": "c0ffee", "stages": stages}  # of an earlier version
    for number, each in enumerate([about, slower, before, *others, "damaged"]):
        put(tmp_path, f"a-{number}", {"record.json": json.dumps(each).encode()})
    assert durations(tmp_path, "data/raw/demo") == {"evaluate": 63}
    assert durations(tmp_path, "data/raw/ml-1m") == {"evaluate": 61}
    assert durations(tmp_path, "data/raw/films") == {}


def test_a_record_that_is_damaged_between_its_ends_is_one_line(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.root)
    path = figures("toy", "films").records["fpmc"][1] / "per_user.parquet"
    before = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    try:
        with pytest.raises(MolarError, match=r"per_user.parquet is damaged: delete \S+ and run the row again"):
            figures("toy", "films")
    finally:
        path.write_bytes(before)


NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_paper_fits_into_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for data in load_table(name).data:
        text = written(made_up(name, data), "terminal", buckets=False)
        assert max(map(len, text.splitlines())) <= 80, text
        assert "…\n" not in text


def test_the_best_two_are_marked_and_the_papers_figures_say_whose_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = made_up("table5", "demo")
    markdown, latex = (written(found, format, buckets=False) for format in ("markdown", "latex"))  # type: ignore[arg-type]
    assert "| Molar | **.2150 ±.0050** | **.2150 ±.0050** |" in markdown
    assert "| w/o IT | <u>.2140 ±.0050</u> |" in markdown and "| <.001 | .0186 | .0339 |" in markdown
    assert r"Molar & \textbf{.2150 $\pm$.0050}" in latex and r"95 \%" in latex
    assert latex.count(r" \\") == 1 + len(found.rows)
    terminal = written(found, "terminal", buckets=False)
    assert ".2150 ±.0050¹" in terminal and ".2140 ±.0050²" in terminal
    said = re.sub(r"\s+", " ", terminal)
    assert "figures of Molar, arXiv 2412.18176v2, table 5, on PixelRec, not ours and not checked." in said
    assert "Ours differs: a drawn world" in said
    cells = main_sheet(found, narrow=True).rows
    assert [row[1].place for row in cells] == [1, 2, 0, 0, 0, 0]


def test_a_name_in_brackets_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = made_up("table5", "demo")
    rows = [replace(row, row={"Molar": "[ids]", "w/o IT": "[/x]"}.get(row.row, row.row)) for row in found.rows]
    text = written(replace(found, rows=rows, reference="[ids]"), "terminal", buckets=False)
    assert text.splitlines()[1].split()[:2] == ["vs", "[ids]"] and "\n [/x] " in text


def test_what_prints_as_zero_has_no_minus() -> None:
    assert [signed(figure) for figure in (0.0, -0.00003, -0.00006, 0.0123, -1.5)] == [
        "+.0000", "+.0000", "-.0001", "+.0123", "-1.5000",
    ]  # fmt: skip


def test_csv_holds_every_metric_for_a_program(found: Figures) -> None:
    rows = list(csv.DictReader(written(found, "csv", buckets=True).splitlines()))
    assert [row["row"] for row in rows] == ["whole", "fpmc", "unaligned", "IDs", "huge"]
    naive = np.mean([ndcg_at(ranks("fpmc", seed), 20).mean() for seed in SEEDS])
    assert float(rows[1]["ndcg@20"]) == pytest.approx(naive, abs=1e-6)
    assert rows[4]["ndcg@10"] == "" and rows[4]["seeds"] == "0"
    assert float(rows[0]["paper recall@10"]) == 0.5
    assert "ndcg@10, 20+ training interactions of the target" in rows[0]
    assert rows[3]["ndcg@10, new items among all items"] == "" != rows[0]["ndcg@10, new items among all items"]


def test_the_command_prints_it(toy: Toy) -> None:
    lines = toy.molar("show", "toy", "--data", "films", "--buckets")
    assert lines[0] == " A toy" and any(line.startswith(" huge ") and "missing" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert toy.molar("show", "none", status=1) == ["error: no experiment 'none' in experiments/ (there are: toy)"]


def test_every_file_is_on_the_page() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []
    assert Path(ROOT / "experiments").is_dir()
