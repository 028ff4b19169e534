"""`molar doctor`: one screen of 24 lines by 80 columns, and an exit status that says whether a run can start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import artifacts
from pipeline.catalog.build import build
from pipeline.doctor import examine
from stages import cli, doctor
from tests.catalog.shop import ingest_params, write_shop


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No DVC, no measuring, no GPU, no colour, and none of the caller's own variables."""
    for name in [name for name in os.environ if name.startswith("MOLAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(doctor, "Question", Silent)
    monkeypatch.setattr(examine.speed, "measure", lambda device, layer: 1e9)
    monkeypatch.setenv("MOLAR_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "200")


class Silent:
    def answer(self) -> tuple[str, Path | None]:
        return doctor.dvc_line([{"cache": "cache", "remote": None}], "", late=False)


def molar() -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli.app, ["doctor"])
    return result.exit_code, [line.rstrip() for line in result.stdout.splitlines()]


def a_catalogue() -> None:
    with artifacts.write(Path("data/catalog")) as out:
        build(ingest_params(write_shop(Path("data/raw/demo"))), out)


def fits(lines: list[str]) -> bool:
    return len(lines) <= 24 and max(map(len, lines)) <= 80


def test_without_a_catalogue_costs_are_unknown_and_nothing_is_missing(params_file) -> None:
    params_file({})
    code, lines = molar()
    assert code == 0 and fits(lines)
    assert lines[-2:] == ["costs of the stages: unknown until `dvc repro ingest`", "nothing is missing"]
    assert "ok  data      data/raw/demo: not drawn yet, the stage `demo` does it" in lines
    assert "env      MOLAR_DEVICE=cpu" in lines


def test_frozen_encoders_are_not_estimated_by_the_mirm(params_file) -> None:
    encoders = {"text_encoder": {"model": "models/bert"}, "image_encoder": {"model": "models/vit"}}
    params_file({"embed_items": {"encoder": "text+image", **encoders}})
    a_catalogue()
    code, lines = molar()
    assert code == 0 and fits(lines)
    assert any("3 items, not estimated for text+image" in line for line in lines if line.startswith("embed_items"))


def test_with_a_catalogue_each_stage_has_its_line(params_file) -> None:
    params_file({"finetune_mirm": {"objectives": {"contrast": 0.0}}})
    a_catalogue()
    code, lines = molar()
    assert code == 0 and fits(lines)
    table = {line.split()[0]: line for line in lines[-7:-1]}
    assert list(table) == ["ingest", "train_teacher", "finetune_mirm", "embed_items", "train_dueg", "build_index"]
    assert "3 items, 6 interactions" in table["ingest"]
    assert "2,000 steps x 32 x " in table["finetune_mirm"] and " min " in table["finetune_mirm"]
    assert lines[-1].startswith("in all about ") and lines[-1].endswith("; nothing is missing")


def test_a_missing_backbone_is_told_with_what_to_do_and_exits_1(params_file) -> None:
    params_file({"finetune_mirm": {"backbone": "./models/qwen"}})
    a_catalogue()
    code, lines = molar()
    assert code == 1 and fits(lines)
    text = " ".join(" ".join(lines).split())
    assert (
        "missing backbone finetune_mirm.backbone = './models/qwen': no such folder (tiny, a local folder, or a hub id "
        "such as Qwen/Qwen2-VL-2B-Instruct)"
    ) in text
    assert lines[-1].endswith("missing: 1, `dvc repro` would stop there")
    assert sum("unknown without the backbone" in line for line in lines) == 4


def test_everything_at_once_stays_within_the_columns(params_file) -> None:
    params_file(
        {
            "finetune_mirm": {"backbone": "./" + "a-long-folder-name/" * 8},
            "ingest": {"path": "data/raw/" + "x" * 150},
            "runtime": {"device": "cuda"},
        }
    )
    code, lines = molar()
    assert code == 1 and max(map(len, lines)) <= 80
    assert lines[-1].startswith("missing: 2")


def test_impossible_params_are_the_line_that_every_stage_prints(params_file, capsys) -> None:
    params_file({"finetune_mirm": {"tuning": "some"}})
    with pytest.raises(SystemExit) as error:
        doctor.main()
    assert error.value.code == 1
    said = capsys.readouterr()
    assert said.err == "error: params.yaml: finetune_mirm.tuning = 'some': should be 'none', 'lora' or 'full'\n"
    assert said.out == ""


def test_an_unreadable_catalogue_is_worth_a_look(params_file) -> None:
    params_file({})
    a_catalogue()
    Path("data/catalog/summary.json").write_text("{")
    code, lines = molar()
    assert code == 0 and any(line.startswith("look  catalogue  data/catalog is unreadable (") for line in lines)


def test_a_disk_that_is_too_small_is_worth_a_look(params_file, monkeypatch: pytest.MonkeyPatch) -> None:
    params_file({})
    a_catalogue()
    monkeypatch.setattr(examine.machine, "free_disk", lambda path: 1000)
    assert any(line.startswith("look  disk ") and "1.0 kB free at data/" in line for line in molar()[1])


def test_a_measurement_that_fails_leaves_the_time_unknown(params_file, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device, layer):
        raise RuntimeError("out of memory")

    params_file({})
    a_catalogue()
    monkeypatch.setattr(examine.speed, "measure", broken)
    code, lines = molar()
    assert code == 0 and any(line.startswith("train_dueg") and " - " in line for line in lines)


def test_a_broken_installation_is_one_line(params_file, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    params_file({})
    monkeypatch.setitem(sys.modules, "pipeline.doctor.examine", None)
    with pytest.raises(SystemExit) as error:
        doctor.main()
    assert error.value.code == 1
    assert capsys.readouterr().err.startswith("error: a package that every stage needs cannot be imported (import of ")


ABOUT = {"cache": "/c", "remote": "store", "url": "s3://bucket"}


@pytest.mark.parametrize(
    ("answers", "errors", "late", "expected"),
    [
        ([ABOUT, {"there": True}], "", False, "remote store answers: s3://bucket"),
        (
            [ABOUT, {"there": False}],
            "",
            False,
            "remote store is empty or not made yet: `dvc push` fills it: s3://bucket",
        ),
        ([ABOUT], "", True, "remote store gives no answer: no answer in 6 s: s3://bucket"),
        (
            [ABOUT],
            "Traceback:\n  File x\na.b.Error: no key\n",
            False,
            "remote store gives no answer: no key: s3://bucket",
        ),
        ([{"cache": "/c", "remote": None}], "", False, "no default remote (`dvc remote add -d NAME URL`)"),
        ([], "ModuleNotFoundError: No module named 'dvc'\n", False, "remote unknown: No module named 'dvc'"),
        ([], "", True, "remote unknown: no answer in 6 s"),
    ],
)
def test_the_line_about_dvc_says_how_the_remote_does(answers, errors: str, late: bool, expected: str) -> None:
    line, cache = doctor.dvc_line(answers, errors, late)
    assert line.partition(", ")[2] == expected
    assert cache == (Path("/c") if answers else None)


def test_a_remote_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    started = subprocess.Popen
    sleeper = f"import json, time; print(json.dumps({ABOUT}), flush=True); time.sleep(60)"
    monkeypatch.setattr(doctor.subprocess, "Popen", lambda _, **rest: started([sys.executable, "-c", sleeper], **rest))
    monkeypatch.setattr(doctor, "REMOTE_SECONDS", 1.0)
    assert "remote store gives no answer: no answer in 1 s" in doctor.Question().answer()[0]


def test_dvc_itself_is_asked_about_a_local_remote(tmp_path: Path) -> None:
    from dvc.repo import Repo

    with Repo.init(str(tmp_path), no_scm=True) as repo, repo.config.edit() as config:
        config["remote"]["store"] = {"url": str(tmp_path / "store")}
        config["core"]["remote"] = "store"
    (tmp_path / "store").mkdir()
    script = Path(doctor.__file__).with_name("remote.py")
    run = subprocess.run([sys.executable, "-P", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    about, there = map(json.loads, run.stdout.splitlines())
    assert about["remote"] == "store" and Path(about["cache"]).is_relative_to(tmp_path)
    assert there == {"there": True}
