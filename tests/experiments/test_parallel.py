"""MOLAR_DEVICES: rows at once are the rows one after the other; no stage is computed twice, nothing is left behind."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import MolarError
from pipeline.experiments import parallel
from pipeline.experiments.board import Lane, board
from pipeline.experiments.clone import Clone
from pipeline.experiments.devices import devices, environment_of, labels
from pipeline.experiments.forecast import Work
from pipeline.experiments.records import FOLDER
from pipeline.experiments.row import Leg

from .test_run import Ran, alive, ended, records
from .toy import Toy

TWO = {"MOLAR_DEVICES": "cpu,cpu"}
ROWS = ("run", "toy", "--seeds", "1", "--only", "whole", "--only", "unaligned")


@pytest.fixture
def again(ran: Ran, tmp_path: Path) -> Toy:
    """The toy before its first run."""
    root = tmp_path / "checkout"
    shutil.copytree(ran[0].root, root, ignore=shutil.ignore_patterns(".molar", "runs"))
    return Toy(root)


def kept(toy: Toy) -> dict[str, bytes]:
    files = [path for record in records(toy) for path in record.iterdir() if path.name != "record.json"]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def pids(toy: Toy) -> list[int]:
    return [int(line.split()[1]) for line in toy.log.read_text().splitlines()]


@pytest.mark.parametrize(
    "ending",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_shared_work_is_done_once_a_kill_ends_both_and_the_rerun_keeps_the_same_records(
    ran: Ran, again: Toy, ending: signal.Signals
) -> None:
    process = again.start(*ROWS, TOY_SLOW="train_dueg", **TWO)
    deadline = time.monotonic() + 120
    while not again.log.exists() or again.log.read_text().count("child") < 2:  # until both are at it
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.1)
    found = pids(again)
    output = ended(process, ending, found)
    assert ending == signal.SIGKILL or output.count("  ended ") == 2
    assert sorted(again.executions()) == sorted(["ingest", "train_teacher", *["train_dueg", "child"] * 2])
    said = again.molar(*ROWS, **TWO)
    assert sorted(again.executions()) == ["evaluate", "evaluate", "train_dueg", "train_dueg"]
    assert len(kept(again)) == 8 and kept(again).items() <= kept(ran[0]).items()
    lines = [line for line in said if " computed" in line]
    assert len(lines) == 4 and {line.split("computed")[1].strip() for line in lines} == {"cpu 1", "cpu 2"}
    assert max(map(len, said)) <= 80
    assert not list((again.root / FOLDER / "scratch").glob("*"))


@pytest.mark.soak
def test_a_failed_row_of_two_and_then_the_whole_table(ran: Ran, again: Toy) -> None:
    toy, _, executed = ran
    arguments = ("run", "toy", "--seeds", "1")
    said = again.molar(*arguments, status=1, TOY_FAIL="train_teacher", TOY_SLOW="train_dueg", **TWO)
    assert said[-1].startswith("error: fpmc, seed 0 failed: error: the loss is not a number (all of it: .molar/")
    assert re.search(r"fpmc +0 +train_teacher +\d:\d\d  failed", "\n".join(said))
    assert re.search(r"(whole|unaligned) +0 +\S+ +\d:\d\d  ended", "\n".join(said))
    assert not any(map(alive, pids(again)))
    shutil.rmtree(again.root / ".dvc" / "cache" / "runs")
    again.executions()
    again.molar(*arguments, **TWO)
    assert sorted(again.executions()) == sorted(executed)
    assert len(kept(again)) == 12 and kept(again).items() <= kept(toy).items()


class World:
    """Work without DVC: a, then b of what a made, then c; what is made of `same` params of a is the same content."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
        self.committed: Any = SimpleNamespace(root=root, stages=dict.fromkeys("abc"))
        self.clones = [Clone(root, root, {}) for _ in range(lanes)]
        numbers = itertools.count(1)
        self.lanes = [Lane(9, numbers, "") for _ in self.clones]
        self.done: dict[Work, str] = {}
        self.executed: list[Work] = []
        self.most = self.now = 0
        monkeypatch.setattr(parallel, "pending", self.pending)
        monkeypatch.setattr(parallel, "forecast", lambda *_: set())
        monkeypatch.setattr(parallel, "compute", self.compute)

    def pending(self, point: Any, *_: Any) -> Iterator[Work]:
        content = ""
        for stage in "abc":
            work = (stage, f"{content}/{point[stage]}")
            if work not in self.done:
                yield work
            content = self.done.get(work, f"unknown {work}")

    def compute(self, point: Any, _c: Any, _clone: Any, _lane: Any, _lock: int, legs: Iterable[Leg]) -> None:
        for leg in legs:
            for work in list(self.pending(point))[: 1 if leg.stage else None]:
                self.executed.append(work)
                self.now += 1
                self.most = max(self.most, self.now)
                time.sleep(0.01)
                self.now -= 1
                self.done[work] = work[0] if point["same"] else str(work)

    def at_once(self, todo: list[Any], keep_going: bool = False) -> list[str]:
        return parallel.at_once(todo, self.committed, self.clones, self.lanes, 0, keep_going)


def test_work_that_turns_out_equal_only_on_the_way_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lanes=3)
    todo = [{"a": a, "b": b, "c": c, "same": a < 2} for a, b, c in itertools.product(range(4), range(2), range(2))]
    assert world.at_once(todo) == []
    assert len(world.executed) == len(set(world.executed)) == 4 + 3 * 2 + 3 * 2 * 2 - 2
    assert 1 < world.most <= 3


def test_a_worker_takes_a_row_that_need_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, lanes=2)
    rows = [{"a": a, "b": b, "c": 0, "same": False} for a, b in ((0, 0), (0, 1), (1, 0))]
    claims = parallel.Claims(rows, world.pending)  # type: ignore[arg-type]
    first, second = world.lanes
    assert claims.take(first) == rows[0] and claims.take(second) == rows[2]
    third = threading.Thread(target=lambda: world.executed.append(claims.take(second)))  # type: ignore[arg-type]
    third.start()
    time.sleep(0.05)
    assert world.executed == [], "what is left waits for the first"
    world.done["a", "/0"] = "made"
    assert claims.follow(first, lambda: list(world.pending(rows[0])))[0] == ("b", "made/0")
    third.join(5)
    assert world.executed == [rows[1]]


def test_checkpoints_of_a_claim_wait_for_whoever_gets_it_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, lanes=2)
    row: Any = {"a": 0, "b": 0, "c": 0, "same": False}
    monkeypatch.setattr(parallel, "forecast", lambda *_: set(world.pending(row)))
    seen: list[Path] = []
    stray = tmp_path / FOLDER / "scratch" / "of-nobody"
    stray.mkdir(parents=True)
    os.utime(stray, (0, 0))

    def compute(_p: Any, _c: Any, _clone: Any, _lane: Any, _lock: int, legs: Iterable[Leg]) -> None:
        scratch = next(iter(legs)).scratch
        assert scratch is not None
        (scratch / "checkpoint").mkdir(parents=True, exist_ok=bool(seen))
        assert not stray.exists()
        seen.append(scratch)
        raise MolarError("killed")

    monkeypatch.setattr(parallel, "compute", compute)
    for times in (1, 2):
        assert world.at_once([row], keep_going=True) == ["killed"]
        assert len(seen) == times and len(set(seen)) == 1 and (seen[0] / "checkpoint").is_dir()


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failed_row_ends_the_others_unless_they_are_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_going: bool
) -> None:
    world = World(tmp_path, monkeypatch, lanes=2)
    started, ended = threading.Event(), []

    def compute(point: Any, _c: Any, clone: Clone, _lane: Any, _lock: int, _legs: Any) -> None:
        if point["a"] == 0:
            started.wait(10)
            raise MolarError("bad, seed 0 failed: no number")
        seconds = 0 if keep_going else 60
        command = ["-c", f"import time; print('there', flush=True); time.sleep({seconds})"]
        try:
            with (tmp_path / "lock").open("a") as lock:
                for _ in clone.python(command, tmp_path / "log", lock.fileno(), "slow"):
                    started.set()
        finally:
            ended.append(point["a"])

    monkeypatch.setattr(parallel, "compute", compute)
    todo = [{"a": a, "b": 0, "c": 0, "same": False} for a in range(3 if keep_going else 2)]
    begun = time.monotonic()
    if keep_going:
        assert world.at_once(todo, keep_going) == ["bad, seed 0 failed: no number"]
        assert ended == [1, 2]
    else:
        with pytest.raises(MolarError, match="bad, seed 0 failed"):
            world.at_once(todo)
        assert ended == [1] and time.monotonic() - begun < 30


def test_lines_of_rows_in_flight_name_row_and_device(capsys: pytest.CaptureFixture[str]) -> None:
    with board(2, ["cuda:0", "cuda:1"]) as (one, two):
        for lane, row in ((one, "Molar"), (two, "w/o IT")):
            lane.begin(SimpleNamespace(row=row, seed=0))  # type: ignore[arg-type]
        one.cached("demo")
        one.computing("ingest")
        two.pause(waits=True)
        assert "waits for another row" in two.__rich__().plain and "run 2 of 2  cuda:1" in two.__rich__().plain
        one.pause(waits=False)
        two.pause(waits=False)
        for stage in ("demo", "ingest"):
            one.cached(stage)  # said again by the next look
            two.cached(stage)
        two.computing("train_dueg")
        assert [run.stage for run in two.end("failed")] == ["demo", "ingest"]
        assert [(run.stage, run.source) for run in one.end()] == [("demo", "from cache"), ("ingest", "computed")]
    said = [line.split() for line in capsys.readouterr().err.splitlines()[1:]]
    assert [(line[0], line[-2:]) for line in said] == [
        ("Molar", ["cache", "cuda:0"]),
        ("Molar", ["computed", "cuda:0"]),
        ("w/o", ["cache", "cuda:1"]),
        ("w/o", ["failed", "cuda:1"]),
    ]


def test_devices_and_what_a_stage_is_told_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for value, named in (("", []), ("cpu", ["cpu"]), ("cuda:0, cuda:1", ["cuda:0", "cuda:1"])):
        monkeypatch.setenv("MOLAR_DEVICES", value)
        assert devices() == named
    assert labels([]) == labels(["cpu"]) == [""]
    assert labels(["cuda:0", "cpu", "cpu"]) == ["cuda:0", "cpu 2", "cpu 3"]
    assert environment_of("cpu") == {"MOLAR_DEVICE": "cpu"}
    assert environment_of("cuda:1") == {"MOLAR_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert environment_of("cuda:1") == {"MOLAR_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "6"}
    for value, words in (("cuda:2", "names cuda:2, but CUDA_VISIBLE"), ("gpu0", "'gpu0': a device for each")):
        monkeypatch.setenv("MOLAR_DEVICES", value)
        with pytest.raises(MolarError, match=words):
            devices()


def test_checkpoints_of_another_tables_killed_run_stay_for_two_weeks(tmp_path: Path) -> None:
    now = time.time()
    for name, days in (("train_dueg-0", 1), ("train_dueg-1", 20), ("train_dueg-2", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint").touch()
        for path in (tmp_path / name / "checkpoint", tmp_path / name):
            os.utime(path, (now - days * 86_400,) * 2)
    parallel._tidy(tmp_path, {("train_dueg", "2")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train_dueg-0", "train_dueg-2"]
