"""`molar preset` shows the exact difference, writes it without losing a comment, and refuses what would not run."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.experiments.committed import that_counts
from pipeline.params import load_params
from stages import preset
from stages.cli import app

from ..conftest import ROOT

SHIPPED = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "films.yaml").write_text(
        "# Films\n\nprotocol:\n  mask_seen: true\n  max_history: 60\nevaluate:\n  cutoffs: [10, 20]\ningest:\n"
        "  min_rating: 4\ntrain_teacher:\n  training:\n    learning_rate: 5e-4\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def molar(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["preset", *arguments])
    return result.exit_code, [line.rstrip() for line in result.output.splitlines()]


def test_the_difference_is_shown_and_nothing_written() -> None:
    before = Path("params.yaml").read_bytes()
    code, lines = molar("films")
    assert code == 0
    assert [line.split() for line in lines[:5]] == [
        ["key", "params.yaml", "films"],
        ["protocol.mask_seen", "false", "true"],
        ["evaluate.cutoffs", "[10,", "20,", "50]", "[10,", "20]"],
        ["ingest.min_rating", "null", "4"],
        ["train_teacher.training.learning_rate", "2e-3", "5e-4"],
    ]
    assert Path("params.yaml").read_bytes() == before


def test_write_changes_those_values_and_keeps_every_other_byte() -> None:
    before = Path("params.yaml").read_text().splitlines()
    assert molar("films", "--write")[0] == 0
    after = Path("params.yaml").read_text().splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert [line.split("#")[0].split()[:2] for line in changed if line[0] == "+"] == [
        ["+", "mask_seen:"],
        ["+", "min_rating:"],
        ["+", "learning_rate:"],
        ["+", "cutoffs:"],
    ]
    assert len(changed) == 8
    comments = [line.partition("#")[2] for line in before]
    assert [line.partition("#")[2] for line in after] == comments
    params = load_params()
    assert (params.protocol.mask_seen, params.ingest.min_rating, params.evaluate.cutoffs) == (True, 4.0, [10, 20])
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []
    before_again = Path("params.yaml").read_bytes()
    assert molar("films", "--write")[0] == 0
    assert Path("params.yaml").read_bytes() == before_again


def test_an_unknown_preset_is_one_line_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert molar("novels")[0] == 1
    assert refusal("novels", capsys) == "error: no preset 'novels' in presets/ (there are: films)"


MISTAKES = {
    "protocol:\n  mask: true\n": "presets/odd.yaml: unknown key protocol.mask (allowed: max_history, mask_seen)",
    "protocol:\n  mask_seen: 1\n": "presets/odd.yaml: protocol.mask_seen = 1: should be a valid boolean",
    "evaluate:\n  cutoffs: [5]\n": (
        "presets/odd.yaml: evaluate.cutoffs = [5]: 10 (the headline) and 20 must be among them"
    ),
    "protocol: [\n": (
        "presets/odd.yaml is not valid YAML in line 2: expected the node content, but found '<stream end>'"
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_preset_that_would_not_run_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_bytes()
    Path("presets/odd.yaml").write_text(text)
    assert refusal("odd", capsys) == f"error: {MISTAKES[text]}"
    assert Path("params.yaml").read_bytes() == before


def refusal(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    from stages.preset import main

    with pytest.raises(SystemExit):
        main(name, write=True)
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_presets_in_the_repository_give_params_that_run(name: str) -> None:
    shutil.copy(ROOT / "presets" / f"{name}.yaml", "presets")
    assert molar(name, "--write")[0] == 0
    folder = {"amazon": "amazon-2023-Video_Games"}.get(name, name)  # one category of it
    assert load_params().ingest.path == f"data/raw/{folder}"
    assert not load_params().evaluate.oracle


def test_a_preset_leaves_nothing_of_the_one_before() -> None:
    """A key that one of them sets is set by all, so that their order does not matter."""
    keys = {name: _keys(YAML(typ="safe").load(ROOT / "presets" / f"{name}.yaml")) for name in SHIPPED}
    missing = {name: sorted(set().union(*keys.values()) - found) for name, found in keys.items()}
    assert not any(missing.values()), missing


def _keys(section: dict[str, object], above: str = "") -> set[str]:
    below = (
        _keys(value, f"{above}{key}.") if isinstance(value, dict) else {above + key} for key, value in section.items()
    )
    return set().union(*below)


def test_without_a_name_they_are_listed() -> None:
    assert molar() == (0, ["films  Films"])


def test_data_that_may_not_be_passed_on_is_marked_for_dvc_and_no_record_is_out_of_date(project: Path) -> None:
    (project / "presets" / "films.yaml").write_text(
        "# F\nruntime: {share_data: false}\ningest: {path: data/raw/films}\n"
    )
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / "data/raw").mkdir(parents=True)
    raw = project / "data/raw/films.dvc"
    raw.write_text("outs:\n- md5: 0123.dir\n  hash: md5\n  path: films\n")
    before = (project / "dvc.yaml").read_text()
    assert molar("films")[0] == 0 and (project / "dvc.yaml").read_text() == before
    assert molar("films", "--write")[0] == 0
    after = (project / "dvc.yaml").read_text()
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert changed == ["-       - data/catalog", "+       - data/catalog:", "+           push: false"]
    assert raw.read_text().endswith("  path: films\n  push: false\n")
    assert molar("films", "--write")[1] == ["params.yaml already says what films says"]
    counted = [
        {name: that_counts(stage) for name, stage in YAML(typ="safe").load(text)["stages"].items()}
        for text in (before, after)
    ]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_preset_passes_its_data_on(name: str) -> None:
    """All of them are of data whose owners forbid it."""
    preset = YAML(typ="safe").load((ROOT / "presets" / f"{name}.yaml").read_text())
    assert preset["runtime"] == {"share_data": False}


def test_a_reader_who_has_gone_keeps_nothing_from_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str, found: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(preset, "_show", gone)
    assert molar("films", "--write")[0] == 1
    assert load_params(Path("params.yaml")).protocol.max_history == 60


def test_a_key_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, lines = molar("films")
    assert code == 0 and "…" not in "".join(lines)
    keys = "".join(line[:18].split(" ")[0] for line in lines)
    assert "train_teacher.training.learning_rate" in keys
