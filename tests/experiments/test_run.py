"""`molar experiment run`: equal work is done once, what is done is left alone, and nothing outlives a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import MolarError
from pipeline.experiments import run
from pipeline.experiments.committed import Committed
from pipeline.experiments.points import points_of
from pipeline.experiments.records import FOLDER
from pipeline.experiments.table import load_table
from pipeline.params.sharing import marked

from .toy import Toy, made

Ran = tuple[Toy, list[str], list[str]]


def records(toy: Toy) -> list[Path]:
    return sorted((toy.root / FOLDER / "records").iterdir())


def params_of(folder: Path) -> dict[str, Any]:
    """All but what changes no result."""
    params = YAML(typ="safe").load((folder / "params.yaml").read_text())
    return {name: section for name, section in params.items() if name != "runtime"}


def test_executions_are_the_distinct_combinations_of_stage_params_and_inputs(ran: Ran) -> None:
    toy, said, executed = ran
    locks = [YAML(typ="safe").load((record / "dvc.lock").read_text()) for record in records(toy)]
    work = {
        json.dumps([name, stage["params"], [(d["path"], d["md5"]) for d in stage["deps"]]], sort_keys=True)
        for lock in locks
        for name, stage in lock["stages"].items()
    }
    assert len(executed) == len(work) == 9
    assert f"at most {len(work)} stages to compute" in "\n".join(said)
    of_whole, teacher, user = ["ingest", "train_teacher", "train_dueg", "evaluate"], "train_teacher", "train_dueg"
    assert executed == [*of_whole, teacher, user, "evaluate", user, "evaluate"]


def test_what_it_will_compute_is_said_before_and_what_came_from_where_meanwhile(ran: Ran) -> None:
    _, said, _ = ran
    assert re.fullmatch(r"toy on demo, commit \w{10}: 3 runs to go", said[0])
    assert said[1:3] == [
        "at most 9 stages to compute, the rest is in the run-cache:",
        "  1 ingest, 2 train_teacher, 3 train_dueg, 3 evaluate",
    ]
    lines = [line.split() for line in said if " computed" in line or " from cache" in line]
    assert lines[0][:3] == ["whole", "0", "ingest"] and lines[0][-1] == "computed"
    assert lines[-3][:4] == ["unaligned", "0", "2", "stages"] and lines[-3][-2:] == ["from", "cache"]
    assert max(len(line) for line in said) <= 80
    assert said[-1] == "toy on demo: 3 runs there; `molar experiment show toy`"


def test_a_row_starts_from_the_committed_params_whatever_ran_before_it(ran: Ran) -> None:
    toy, _, _ = ran
    params = [YAML(typ="safe").load((record / "params.yaml").read_text()) for record in records(toy)]
    found = {(p["train_teacher"]["model"], p["train_dueg"]["alignment"]["weight"]) for p in params}
    assert found == {("sasrec", 1.0), ("fpmc", 1.0), ("sasrec", 0)}


def test_a_second_run_computes_nothing_and_touches_nothing(ran: Ran) -> None:
    toy, _, _ = ran
    before = {path: path.stat().st_mtime_ns for path in (toy.root / FOLDER).rglob("*")}
    assert toy.molar("run", "toy", "--seeds", "1") == [
        "toy on demo: nothing to compute, 3 runs there; `molar experiment show toy`"
    ]
    assert toy.executions() == []
    assert {path: path.stat().st_mtime_ns for path in (toy.root / FOLDER).rglob("*")} == before


def test_lost_and_damaged_records_come_from_the_run_cache_and_are_the_same(ran: Ran) -> None:
    toy, _, _ = ran
    lost, damaged = records(toy)[:2]
    kept = {path.relative_to(toy.root): path.read_bytes() for folder in (lost, damaged) for path in folder.iterdir()}
    shutil.rmtree(lost)
    (damaged / "per_user.parquet").write_bytes(b"PAR1 and no more")
    said = toy.molar("run", "toy", "--seeds", "1")
    assert said[0].startswith(f"mind: the record {damaged.name} has a per_user.parquet that is cut short: it counts")
    assert "every stage of them is in the run-cache: nothing to compute" in said
    assert toy.executions() == []
    for path, content in kept.items():
        if path.name != "record.json":
            assert (toy.root / path).read_bytes() == content, path


@pytest.mark.parametrize("lost", [["train_teacher"], ["ingest", "train_teacher", "train_dueg", "evaluate"]])
def test_a_lock_of_another_machine_does_not_hide_what_the_run_cache_has(ran: Ran, lost: list[str]) -> None:
    toy, _, _ = ran
    whole = next(record for record in records(toy) if params_of(record) == params_of(toy.root))
    lock = YAML(typ="safe").load((whole / "dvc.lock").read_text())
    for stage in lost:
        lock["stages"][stage]["outs"][0]["md5"] = f"{'0' * 32}.dir"  # its processor rounded otherwise
    with (toy.root / "dvc.lock").open("w") as file:
        YAML().dump(lock, file)
    toy.git("add", "dvc.lock")
    toy.git("commit", "-qm", "a lock")
    shutil.rmtree(whole)
    toy.molar("run", "toy", "--seeds", "1")
    toy.git("reset", "-q", "--hard", "HEAD~1")
    assert toy.executions() == []


def test_a_records_files_bring_its_artifacts_into_the_checkout_and_leave_raw_data_alone(ran: Ran) -> None:
    toy, _, _ = ran
    record = records(toy)[0]
    committed = (toy.root / "params.yaml").read_bytes()
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(record / name, toy.root)
    command = [sys.executable, "-m", "dvc", "checkout"]
    subprocess.run(command, cwd=toy.root, env=toy.environment, check=True, capture_output=True)
    assert (toy.root / "data/evaluation/per_user.parquet").read_bytes() == (record / "per_user.parquet").read_bytes()
    assert (toy.root / "data/raw/demo/interactions.csv").is_file()
    (toy.root / "params.yaml").write_bytes(committed)
    (toy.root / "dvc.lock").unlink()


def test_a_failed_row_is_told_and_the_others_go_on(ran: Ran) -> None:
    toy, _, _ = ran
    arguments = ("run", "toy", "--seeds", "2", "--only", "fpmc", "--only", "unaligned", "--keep-going")
    said = toy.molar(*arguments, status=1, TOY_FAIL="train_teacher")
    assert re.search(r"fpmc +1 +train_teacher +\d:\d\d  failed", "\n".join(said))
    assert said[-1].startswith(
        "error: 1 of 2 runs failed, the others are there: fpmc, seed 1 failed: error: the loss is not a number "
        "(all of it: .molar/experiments/logs/"
    )
    assert Path(toy.root, re.findall(r"\.molar\S+\.log", said[-1])[0]).is_file()
    assert not any("Traceback" in line for line in said)
    toy.executions()
    said = toy.molar("run", "toy", "--seeds", "2", "--only", "fpmc", "--only", "unaligned")
    assert toy.executions() == ["train_teacher", "train_dueg", "evaluate"]
    assert any(line.startswith("about 0:") for line in said), "each stage has been timed by now"


def ended(process: subprocess.Popen[str], ending: signal.Signals, pids: list[int]) -> str:
    """What the command says when it is signalled alone, and with it all of `pids` have gone."""
    process.send_signal(ending)
    output, _ = process.communicate()
    if ending == signal.SIGKILL:
        deadline = time.monotonic() + 60
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
    else:
        assert process.returncode == 130 and output.endswith("interrupted: run the same command again to go on\n")
        assert "Traceback" not in output
    assert not any(map(alive, pids))
    return output


@pytest.mark.parametrize(
    "ending", [signal.SIGTERM, signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_nothing_goes_on_computing_after_a_kill_and_the_rerun_finishes(ran: Ran, ending: signal.Signals) -> None:
    """The parent alone is signalled; the stage has a child in a session of its own."""
    toy, _, _ = ran
    arguments = ("run", "toy", "--seeds", "3", "--only", "whole")
    for record in records(toy):  # of the other endings
        if YAML(typ="safe").load((record / "params.yaml").read_text())["seed"] == 2:
            shutil.rmtree(record)
    shutil.rmtree(toy.root / ".dvc" / "cache" / "runs")
    process = toy.start(*arguments, TOY_SLOW="train_dueg")
    deadline = time.monotonic() + 120
    while "child" not in (log := toy.log.read_text() if toy.log.exists() else ""):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.1)
    pids = [int(line.split()[1]) for line in log.splitlines() if line.split()[0] in ("train_dueg", "child")]
    ended(process, ending, pids)
    toy.executions()
    toy.molar(*arguments)
    assert toy.executions()[-2:] == ["train_dueg", "evaluate"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_without_a_checkpoint_one_line_says_what_to_put_where(fresh: Toy) -> None:
    assert fresh.molar("run", "toy", "--data", "films", status=1) == [
        "error: huge needs someone/huge@0123abc: hf download someone/huge --revision 0123abc --local-dir models/huge "
        "(or leave such rows out: --only ROW, --keep-going)"
    ]


def test_where_every_row_lacks_its_checkpoint_nothing_is_said_to_be_there(fresh: Toy) -> None:
    said = fresh.molar("run", "toy", "--data", "films", "--only", "huge", "--keep-going", status=1)
    assert said[0].startswith("left out: huge needs ") and said[1:] == [
        "error: toy on films: 0 of 1 row can be computed"
    ]


def test_more_seeds_than_show_looks_for_are_refused(fresh: Toy) -> None:
    assert fresh.molar("run", "toy", "--seeds", "21", status=1) == [
        "error: --seeds 21: at most 20, for show, report and push look for no others"
    ]


def test_without_its_raw_data_one_line_says_how_to_give_it(fresh: Toy) -> None:
    text = "title: T\ndata: {shop: {set: {ingest.path: data/raw/shop}}}\nrows: {a: {}}\n"
    (fresh.root / "experiments" / "shop.yaml").write_text(text)
    assert fresh.molar("run", "shop", status=1) == [
        "error: shop needs data/raw/shop, which is not in the last commit: put the data there, then "
        "`dvc add data/raw/shop`, `git add data/raw/shop.dvc` and commit (docs/sources.md, docs/download.md)"
    ]


def test_other_code_is_another_result_and_other_words_are_not(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, _, _ = ran
    monkeypatch.chdir(toy.root)

    def addresses() -> list[str]:
        return [p.address for p in points_of("toy", load_table("toy"), Committed(toy.root), "demo", [0])]

    before = addresses()
    for path, same in (("README.md", True), ("toy.py", False)):
        original = Path(path).read_text() if Path(path).exists() else ""
        Path(path).write_text(original + "# more\n")
        assert addresses() == before, "what is not committed is not measured"
        assert Committed(toy.root).changed([params_of(toy.root)]) == ([] if same else [path])
        toy.git("add", path)
        toy.git("commit", "-qm", "more")
        assert (addresses() == before) == same
    toy.git("reset", "-q", "--hard", "HEAD~2")
    assert addresses() == before


def test_a_mark_that_raw_data_is_not_pushed_makes_no_other_result(tmp_path: Path) -> None:
    toy = made(tmp_path / "checkout", dvc=False)
    raw = toy.root / "data/raw/demo.dvc"
    plain = "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  size: 3\n  path: demo\n"

    def digest(text: str) -> str:
        raw.write_text(text)
        toy.git("add", "-f", str(raw))
        toy.git("commit", "-qm", "raw data")
        return Committed(toy.root).code_digest(params_of(toy.root))

    before, held = digest(plain), marked(plain, "demo", "demo.dvc")
    assert held != plain and digest(held) == before
    assert digest(held.replace("0123", "4567", 1)) not in (before, digest("outs: []\n"))


def test_raw_data_that_is_not_committed_is_named(tmp_path: Path) -> None:
    toy = made(tmp_path / "checkout", dvc=False)
    raw, other = (toy.root / "data/raw" / name for name in ("demo.dvc", "other.dvc"))
    for path in (raw, other):
        path.write_text("outs: []\n")
        toy.git("add", "-f", str(path))
    toy.git("commit", "-qm", "raw data")
    params = params_of(toy.root)
    assert Committed(toy.root).changed([params]) == []
    for path in (raw, other, toy.root / "data/raw/demo/interactions.csv"):
        path.write_text("others\n")
    assert Committed(toy.root).changed([params]) == ["data/raw/demo.dvc"]
    params["ingest"]["path"] = "data/raw/other"
    assert Committed(toy.root).changed([params]) == ["data/raw/other.dvc"]


def test_two_runs_in_one_checkout_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE_SECONDS", 0.05)
    with (
        run._alone(tmp_path / "lock"),
        pytest.raises(MolarError, match="is already running here"),
        run._alone(tmp_path / "lock"),
    ):
        pass


def test_a_new_file_holds_the_difference_to_the_committed_params(fresh: Toy) -> None:
    params = fresh.root / "params.yaml"
    committed = params.read_text()
    assert fresh.molar("new", "mine", status=1)[-1].startswith("error: params.yaml has nothing else than the commit")
    cutoffs = "cutoffs:                      # as a list in block style\n    - 10\n    - 20"
    changed = committed.replace("k_core: 1", "k_core: 2").replace("\nseed: 0", "\nseed: 3")
    changed = changed.replace("threads: 0 ", "threads: 7 ").replace("cutoffs: [10, 20, 50]", cutoffs)
    params.write_text(changed)
    try:
        assert sorted(fresh.molar("new", "mine")[:2]) == [
            "runtime.threads is left out: it changes no result",
            "seed is left out: every row is run with the seeds of --seeds",
        ]
        assert fresh.molar("new", "2024")
        assert fresh.molar("new", "mine", status=1)[-1].startswith("error: experiments/mine.yaml is there already")
    finally:
        params.write_text(committed)
    written = YAML(typ="safe").load((fresh.root / "experiments" / "mine.yaml").read_text())
    assert written["rows"] == {"committed": {}, "changed": {"set": {"ingest.k_core": 2, "evaluate.cutoffs": [10, 20]}}}
    assert "evaluate.cutoffs: [10, 20]\n" in (fresh.root / "experiments" / "mine.yaml").read_text()
    assert YAML(typ="safe").load((fresh.root / "experiments" / "2024.yaml").read_text())["title"] == "2024"
