"""`molar experiment run` killed at random moments: nothing goes on, and the reruns end as an undisturbed run does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipeline.experiments.records import FOLDER

from .test_run import Ran
from .toy import Toy, made

KILLS = 10


def working_in(folder: Path) -> list[str]:
    """Command lines of living processes whose working directory lies in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd, line = (process / "cwd").readlink(), (process / "cmdline").read_bytes()
        except OSError:
            continue  # has ended meanwhile
        if line and cwd.is_relative_to(folder):
            found.append(line.replace(b"\0", b" ").decode())
    return found


def results(toy: Toy) -> dict[str, bytes]:
    kept = (toy.root / FOLDER / "records").glob("*/*")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in kept if path.name != "record.json"}


@pytest.mark.soak
def test_ten_kills_at_random_moments(ran: Ran, tmp_path: Path) -> None:
    undisturbed, _, _ = ran
    arguments = ("run", "toy", "--seeds", "1")
    toy = made(tmp_path / "checkout")
    rng = random.Random(int(os.environ.get("MOLAR_SOAK_SEED", "0")))
    span = 30.0  # about what a run takes on a machine that is not idle
    for kill in range(KILLS):
        process = toy.start(*arguments)
        time.sleep(rng.uniform(0, span))
        process.send_signal(signal.SIGKILL if kill % 2 else signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode in (0, 130, -signal.SIGKILL, -signal.SIGTERM), output
        assert "Traceback" not in output
        deadline = time.monotonic() + 15
        while (left := working_in(toy.root / FOLDER / "clone")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        if process.returncode == 0 and kill < KILLS - 1:  # it was done before the kill: from the start again
            assert results(toy).items() <= results(undisturbed).items()
            shutil.rmtree(toy.root / FOLDER / "records")
            shutil.rmtree(toy.root / ".dvc" / "cache" / "runs")
    toy.molar(*arguments)
    assert len(results(toy)) == 12 and results(toy).items() <= results(undisturbed).items()
