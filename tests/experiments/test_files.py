"""The files in experiments/: each row is params that run, starts from the committed ones, and inherits nothing."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from pipeline.errors import MolarError
from pipeline.experiments import points
from pipeline.experiments.committed import Committed
from pipeline.experiments.table import FOLDER, System, load_table, parsed
from pipeline.params import load_params
from pipeline.params.document import differences
from pipeline.report.results import ORDER

from ..conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / FOLDER).glob("*.yaml"))
EVERY_DATA_SET = [
    (name, data) for name in NAMES for data in parsed((ROOT / FOLDER / f"{name}.yaml").read_text("utf-8"), name).data
]
SAFE = YAML(typ="safe")
BASE = SAFE.load((ROOT / "params.yaml").read_text("utf-8"))


class WorkingTree(Committed):
    """The checkout as it is, as if it were committed."""

    def text(self, path: str) -> str:
        return (self.root / path).read_text("utf-8")


TREE = WorkingTree(ROOT)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def nested(overrides: dict[str, object]) -> dict[str, object]:
    tree: dict = {}
    for key, value in overrides.items():
        *parents, last = key.split(".")
        section = tree
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
    return tree


def test_there_is_one_file_for_every_table_of_the_paper() -> None:
    assert {"table2", "table3", "table4", "table5", "table6", "figure3"} <= set(NAMES)


@pytest.mark.parametrize(("name", "data"), EVERY_DATA_SET)
def test_a_row_is_its_own_overrides_over_the_committed_params_and_no_more(name: str, data: str) -> None:
    """pipeline.params.check has passed, or `points_of` would raise."""
    table = load_table(name)
    found = points.points_of(name, table, TREE, data, [7])
    assert [point.row for point in found] == table.rows_of(data)
    preset = table.data[data].preset
    leaves = differences(BASE, SAFE.load((ROOT / "presets" / f"{preset}.yaml").read_text("utf-8"))) if preset else []
    of_data = {"seed": 7} | {key: new for key, _, new in leaves} | table.data[data].set
    for point in found:
        expected = of_data | table.overrides(point.row, data)
        assert {key for key, _, _ in differences(BASE, point.values)} <= set(expected)
        assert differences(point.values, nested(expected)) == []
    assert SAFE.load(found[-1].text) == found[-1].values
    shown = {(point.address, table.rows[point.row].system) for point in found}
    assert len(shown) == len(found), "rows differ"


def test_the_order_of_rows_changes_none_of_them() -> None:
    table = load_table("table5")
    backwards = table.model_copy(update={"rows": dict(reversed(table.rows.items()))})
    one, other = (points.points_of("table5", each, TREE, "demo", [0]) for each in (table, backwards))
    assert {p.row: p.text for p in one} == {p.row: p.text for p in other}
    assert [p.row for p in one] == [p.row for p in reversed(other)]


def test_a_row_that_needs_a_checkpoint_says_what_to_put_where(tmp_path: Path) -> None:
    table = load_table("table2")
    missing = {"models/bert-base-uncased": table.rows["SASRec_Bert"].needs["models/bert-base-uncased"]}
    assert points.lacking(table, "SASRec_Bert", "demo", tmp_path) == missing
    (tmp_path / "models/bert-base-uncased").mkdir(parents=True)
    assert points.lacking(table, "SASRec_Bert", "demo", tmp_path) == missing, "an empty folder is no checkpoint"
    (tmp_path / "models/bert-base-uncased/config.json").touch()
    assert points.lacking(table, "SASRec_Bert", "demo", tmp_path) == {}
    assert points.lacking(table, "Molar", "ml-1m", tmp_path), "the data set asks for a real backbone"


HEAD = "title: T\ndata: {demo: {}}\n"
MISTAKES = {
    "title: T\nrows: {a: {}}\n": "x.yaml: data is missing",
    f"{HEAD}rows: {{a: {{sets: {{}}}}}}\n": (
        "x.yaml: unknown key rows.a.sets (allowed: set, on, system, data, needs, paper, note)"
    ),
    f"{HEAD}rows: {{a: {{}}}}\nagainst: b\n": "x.yaml: against = 'b' is none of the rows (a)",
    f"{HEAD}rows: {{a: {{system: duegg}}}}\n": (
        "x.yaml: rows.a.system = 'duegg': should be 'popularity', 'teacher', 'dueg', 'dueg_index', 'sum', 'sum_index', "
        "'oracle' or 'ceiling'"
    ),
    f"{HEAD}rows: {{a: {{data: [ml]}}}}\n": "x.yaml: rows.a.data names 'ml', which is not under data (demo)",
    f"{HEAD}rows: {{a: {{on: {{ml: {{}}}}}}}}\n": "x.yaml: rows.a.on names 'ml', which is not under data (demo)",
    f"{HEAD}rows: {{a: {{on: {{demo: {{seed: 1}}}}}}}}\n": (
        "x.yaml: rows.a.on.demo.seed: the seeds are those of --seeds"
    ),
    f"{HEAD}rows: {{a: {{needs: {{x/models: y}}}}}}\n": (
        "x.yaml: rows.a.needs.x/models: a row finds checkpoints under models/ alone"
    ),
    f"{HEAD}rows: {{a: {{set: {{seed: 1}}}}}}\n": "x.yaml: rows.a.set.seed: the seeds are those of --seeds",
    f"{HEAD}rows: {{a: {{}}, a: {{}}}}\n": (
        'x.yaml is not valid YAML in line 3: found duplicate key "a" with value "{}" (original value: "{}")'
    ),
    f"{HEAD}rows: {{a: {{paper: {{P: {{ndcg: 1.0}}}}}}}}\n": (
        "x.yaml: unknown key rows.a.paper.P.ndcg (allowed: ndcg@10, recall@10, ndcg@20, recall@20, ndcg@50, recall@50)"
    ),
    "- a\n": "x.yaml: the file = ['a']: should hold the keys title, source, note, against, data, rows",
    f"{HEAD}rows: {{a: 3}}\n": "x.yaml: rows.a = 3: should hold the keys set, on, system, data, needs, paper, note",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_file_is_one_line_that_names_file_and_key(text: str) -> None:
    with pytest.raises(MolarError) as caught:
        parsed(text, "x.yaml")
    assert str(caught.value) == MISTAKES[text]


def test_a_row_may_show_any_system_that_evaluate_ranks() -> None:
    assert get_args(System) == ORDER


OVERRIDES = {
    "finetune_mirm.task.image_text: 0": "params.yaml has no key finetune_mirm.task.image_text",
    "finetune_mirm.tasks: 0": "finetune_mirm.tasks is a section",
    "train_dueg.model: bert": "train_dueg.model = 'bert': should be 'sasrec', 'gru4rec'",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_is_one_line_that_names_row_and_key(override: str) -> None:
    table = parsed(f"{HEAD}rows: {{odd: {{set: {{{override}}}}}}}\n", "x.yaml")
    with pytest.raises(MolarError) as caught:
        points.points_of("x", table, TREE, "demo", [0])
    assert str(caught.value).startswith("experiments/x.yaml: ") and "odd" in str(caught.value)
    assert OVERRIDES[override] in str(caught.value)


def test_a_row_sets_on_one_data_set_what_it_sets_on_no_other() -> None:
    row = "{set: {evaluate.bootstrap: 500}, on: {b: {evaluate.bootstrap: 600}}}"
    text = f"title: T\ndata: {{a: {{}}, b: {{}}}}\nrows: {{r: {row}}}\n"
    table = parsed(text, "x.yaml")
    assert [points.points_of("x", table, TREE, data, [0])[0].values["evaluate"]["bootstrap"] for data in "ab"] == [
        500,
        600,
    ]
    wrong = parsed(text.replace("bootstrap: 600", "bootstraps: 600"), "x.yaml")
    with pytest.raises(MolarError, match=r"x.yaml: rows.r.on.b: params.yaml has no key evaluate.bootstraps"):
        points.points_of("x", wrong, TREE, "b", [0])


def test_committed_params_of_other_data_do_not_pass_for_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    other = TREE.text("params.yaml").replace("  path: data/raw/demo\n", "  path: data/raw/ml-1m\n")
    monkeypatch.setattr(WorkingTree, "text", lambda tree, path: other)
    for name in NAMES:
        with pytest.raises(MolarError) as caught:
            points.points_of(name, load_table(name), TREE, "demo", [0])
        assert str(caught.value) == (
            f"experiments/{name}.yaml: data.demo is data/raw/demo, and the committed params.yaml ingests "
            "data/raw/ml-1m: choose another data set by --data, or commit params.yaml with ingest.path = "
            "data/raw/demo again"
        )
    assert points.points_of("table5", load_table("table5"), TREE, "ml-1m", [0])


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("experiments/x.yaml"), Path("params.yaml")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"title: caf\xe9\n")
        with pytest.raises(MolarError) as caught:
            load_table("x") if path.stem == "x" else load_params()
        assert str(caught.value) == f"{path} is not UTF-8 (byte 10): save it as such"


def test_names_that_nothing_has() -> None:
    with pytest.raises(MolarError, match=r"no experiment 'table9' in experiments/ \(there are: figure3, offline, "):
        load_table("table9")
    table = load_table("table5")
    with pytest.raises(MolarError, match=r"has no row 'w/o XY' \(there are: Molar, w/o IT"):
        points.chosen_rows("table5", table, "demo", ["w/o XY"])
    with pytest.raises(MolarError, match=r"has no data set 'films' \(there are: demo"):
        points.chosen_rows("table5", table, "films")
