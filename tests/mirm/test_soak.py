"""Killed at any moment, run again: `finetune_mirm` and `embed_items` end in the bytes of an undisturbed run.

`make soak` runs these, through SIGKILL of the stage's own process. MOLAR_SOAK_KILLS: kills a stage, 20 by default.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import artifacts
from tests.conftest import merged
from tests.mirm.shop import backbone_folder
from tests.pipeline_run.project import MINIATURE, Project, copy_code
from tests.pipeline_run.test_growth import SHOP, write

KILLS = int(os.environ.get("MOLAR_SOAK_KILLS", "20"))
ROWS_LOST = 6  # at most, to one kill: a batch of 128 tokens
ITEMS = 100 * ROWS_LOST * KILLS  # so that all that is lost is below one per cent

# `embed_items` that writes down how many items it is about to encode.
COUNTING = """
import os, typer
from pipeline.mirm.embed import Encoder
encode = Encoder.encode
def counted(self, items):
    with open("counted", "a") as log:
        log.write(f"{len(items)}\\n")
    return encode(self, items)
Encoder.encode = counted
from stages.embed_items import main
typer.run(main)
"""


def project(root: Path, items: int, changes: dict[str, Any]) -> Project:
    """A shop of `items` items, ingested."""
    made = copy_code(root, merged(merged(MINIATURE, SHOP), changes))
    shutil.copytree(backbone_folder(), root / "backbone")
    write(made, {n: f"Thing number {n}" for n in range(items)})
    made.run(sys.executable, "-m", "stages.ingest")
    return made


def start(where: Project, command: list[str]) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=where.root, env=where.environment, start_new_session=True, **quiet)


def kill(running: subprocess.Popen[bytes]) -> bool:
    """SIGKILL its process group; False if it was through before."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    return running.wait() == -signal.SIGKILL


@pytest.mark.soak
def test_finetune_mirm_killed_at_any_moment(tmp_path, capsys) -> None:
    where = project(tmp_path, 60, {"finetune_mirm": {"tuning": "full", "backbone": "tiny", "steps": 200}})
    command = [sys.executable, "-m", "stages.finetune_mirm"]
    began = time.perf_counter()
    where.run(*command)
    whole = time.perf_counter() - began
    expected, mirm = where.digests("finetune_mirm"), where.root / "data" / "mirm"
    shutil.rmtree(mirm)
    rng = random.Random(0)
    killed = finished = 0
    while killed < KILLS:
        running = start(where, command)
        time.sleep(rng.uniform(0.02, 1.0) * whole)
        killed += kill(running)
        if mirm.exists():
            assert where.digests("finetune_mirm") == expected, f"after {killed} kills"
            finished += 1
            assert finished < 3 * KILLS, "hardly a run lasts long enough to be killed"
            shutil.rmtree(mirm)  # DVC does so before it runs a stage
    where.run(*command)
    assert where.digests("finetune_mirm") == expected
    assert not list((where.scratch / "finetune_mirm").iterdir()), "scratch is removed on success"
    with capsys.disabled():
        print(f"\nfinetune_mirm: {killed} kills in runs of {whole:.0f} s, {finished + 1} runs came through, same bytes")


@pytest.mark.soak
def test_embed_items_killed_at_any_moment(tmp_path, capsys) -> None:
    where = project(tmp_path, ITEMS, {"embed_items": {"batch_tokens": 128, "shard_items": 1000}})
    embeddings, counted = where.root / "data" / "embeddings", where.root / "counted"
    where.run(sys.executable, "-m", "stages.finetune_mirm")
    command = [sys.executable, "-c", COUNTING]
    began = time.perf_counter()
    where.run(*command)
    whole, expected = time.perf_counter() - began, where.digests("embed_items")
    assert encoded(counted) == ITEMS
    for path in (embeddings, where.scratch / "embeddings"):
        shutil.rmtree(path)
    counted.unlink()
    rng = random.Random(0)
    killed = 0
    for turn, target in enumerate(sorted(rng.randrange(ITEMS) for _ in range(KILLS))):
        running = start(where, command)
        until = time.perf_counter() + rng.uniform(0.02, 0.2) * whole
        # Three of four come when so many items are done, the fourth at any time, be it while libraries load.
        while running.poll() is None and (time.perf_counter() < until if turn % 4 == 3 else encoded(counted) <= target):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        killed += kill(running)
        if embeddings.exists():
            assert artifacts.read(embeddings, "embed_items").verified() == embeddings
            assert where.digests("embed_items") == expected, f"turn {turn}"
            shutil.rmtree(embeddings)
    where.run(*command)
    assert where.digests("embed_items") == expected
    again = encoded(counted) - ITEMS
    assert 0 <= again <= ITEMS // 100
    assert killed > KILLS // 2
    with capsys.disabled():
        print(f"\nembed_items: {killed} kills in runs of {whole:.0f} s, {again} of {ITEMS} encoded twice, same bytes")


def encoded(counted: Path) -> int:
    """Items that all runs together have begun to encode."""
    return sum(int(line) for line in counted.read_text("utf-8").split()) if counted.exists() else 0
