"""`molar experiment run` over the real stages, killed at random moments: no orphan, and records that come out equal.

`make soak` runs it. Half of the kills are SIGKILL of the command's process group, half SIGTERM of the command alone.
A table that is done before its next kill is compared with the undisturbed one and computed anew, from an empty cache.
MOLAR_SOAK_SEED: of the moments, 0 by default.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments.guard import GRACE_SECONDS
from pipeline.experiments.records import FOLDER

from .project import MINIATURE, Project, copy_code

KILLS = 10
# Two rows that part at the user model; training is long enough to be killed in its middle, with checkpoints there.
TABLE = "title: Two\ndata: {demo: {}}\nrows: {aligned: {}, alone: {set: {train_dueg.alignment.weight: 0}}}\n"
LONGER: dict[str, Any] = {
    "finetune_mirm": {"steps": 40},
    "train_dueg": {"training": {"max_epochs": 30, "patience": 30}},
}
RUN = (sys.executable, "-m", "stages.cli", "experiment", "run", "two", "--seeds", "1")
CSV = (sys.executable, "-m", "stages.cli", "experiment", "show", "two", "--format", "csv")


def made(root: Path) -> Project:
    """A committed checkout that has computed nothing, with a DVC cache of its own."""
    project = copy_code(root, MINIATURE)
    project.set_params(LONGER)
    (root / "experiments").mkdir()
    (root / "experiments" / "two.yaml").write_text(TABLE)
    project.run("git", "init", "-q", "-b", "main")
    project.commit("code")
    return project


def results(project: Project) -> dict[str, bytes]:
    """Files of all records but what says how long it took: per-user ranks, metrics, digests of every artifact."""
    kept = (project.root / FOLDER / "records").glob("*/*")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in kept if path.name != "record.json"}


def forget(project: Project) -> None:
    """What it has computed: records, clone, checkpoints, encoded items, all contents and runs that DVC keeps."""
    shutil.rmtree(project.scratch)
    shutil.rmtree(project.root / ".dvc" / "cache")


def at_work(project: Project) -> list[str]:
    """Command lines of living processes that work in the project's folder or were started for its clone."""
    found, mark = [], os.fsencode(project.root)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd, line = (process / "cwd").readlink(), (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue  # has ended meanwhile, or is another user's
        if line and (cwd.is_relative_to(project.root) or mark in environment):
            found.append(line.replace(b"\0", b" ").decode())
    return found


def stage_of(project: Project) -> str:
    """What was being computed, by the log of the row that is not done."""
    logs = "".join(path.read_text() for path in (project.root / FOLDER / "logs").glob("*.log"))
    return (re.findall(r"^Running stage '(\w+)'", logs, re.M) or ["between rows"])[-1]


def disturbed(project: Project, seconds: float, ending: signal.Signals) -> bool:
    """Run for so long, then end it so; False if it was done before. Whatever it started has ended by then."""
    start = {"cwd": project.root, "env": project.environment, "text": True, "start_new_session": True}
    process = subprocess.Popen(RUN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **start)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        if ending == signal.SIGKILL:
            os.killpg(process.pid, ending)
        else:
            process.send_signal(ending)
        output, _ = process.communicate()
    assert "Traceback" not in output
    assert process.returncode in (0, *((130, -ending) if ending == signal.SIGTERM else (-ending,))), output
    signalled = time.monotonic()
    while left := at_work(project):
        assert time.monotonic() < signalled + 3 * GRACE_SECONDS, left  # the promise is once, on an idle machine
        time.sleep(0.05)
    if process.returncode:
        took = f"all ended {time.monotonic() - signalled:.1f} s later"
        print(f"{ending.name} after {seconds:.0f} s, at {stage_of(project)}; {took}")
    return process.returncode != 0


@pytest.mark.soak
def test_ten_kills_over_the_real_stages_leave_no_orphan_and_no_trace_in_the_results(tmp_path: Path) -> None:
    undisturbed, project = made(tmp_path / "undisturbed"), made(tmp_path / "killed")
    start = time.monotonic()
    undisturbed.run(*RUN)
    span = time.monotonic() - start
    wanted, table = results(undisturbed), undisturbed.run(*CSV)
    assert len(wanted) == 2 * 5
    print(f"\nundisturbed: {span:.0f} s")

    rng = random.Random(int(os.environ.get("MOLAR_SOAK_SEED", "0")))
    endings = [signal.SIGKILL, signal.SIGTERM] * (KILLS // 2)
    rng.shuffle(endings)
    kills = tables = 0
    while kills < KILLS:
        if disturbed(project, rng.uniform(0, span / 2), endings[kills]):
            kills += 1
        else:
            assert (results(project), project.run(*CSV)) == (wanted, table)
            tables += 1
            forget(project)
    project.run(*RUN)
    assert (results(project), project.run(*CSV)) == (wanted, table)
    print(f"{kills} kills over {tables + 1} tables, all equal; {time.monotonic() - start:.0f} s in all")
