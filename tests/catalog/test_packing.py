"""Packing: the same bytes and the same quarantine whatever the number of processes, and a dead process is one line."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from pipeline import artifacts
from pipeline.catalog import workers
from pipeline.catalog.build import build
from pipeline.catalog.places import Bounds, File, encoded
from pipeline.errors import MolarError
from tests.catalog.shop import ingest_params, write_shop

COUNT = 150  # items: two row groups and a bit
BOUNDS = Bounds(64, 50_000_000)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Items with a picture, without one, with a missing and with a broken one."""
    names = ["" if n % 11 == 5 else f"{n}.jpg" for n in range(COUNT)]
    items = "id,title,text,image,brand\n" + "".join(f"i{n},T{n},,{name},\n" for n, name in enumerate(names))
    events = "user,item,timestamp\n" + "".join(f"u{n % 7},i{n},{n}\n" for n in range(COUNT))
    root = write_shop(tmp_path / "raw", events, items)
    for n in range(COUNT):
        if n % 13 != 6:
            Image.effect_noise((120, 90), n).save(root / "images" / f"{n}.jpg")
    for n in range(0, COUNT, 17):
        (root / "images" / f"{n}.jpg").write_bytes(b"no picture")
    return root


def packed(root: Path, out: Path, processes: int) -> dict:
    with artifacts.write(out) as partial:
        build(ingest_params(root, max_quarantine=0.5), partial, processes)
    return artifacts.read(out, "ingest").facts


def test_three_processes_write_what_one_writes(tmp_path, shop, monkeypatch) -> None:
    alone = packed(shop, tmp_path / "one", 1)
    started = []
    start = workers._started
    monkeypatch.setattr(workers, "_started", lambda bounds: started.append(start(bounds)) or started[-1])
    monkeypatch.setattr(workers, "ALONE", 0.0)
    monkeypatch.setattr(workers, "BATCH", 4)
    assert packed(shop, tmp_path / "three", 3) == alone
    assert len(started) == 3 and not any(process.is_alive() for process, _ in started)


def test_few_pictures_start_no_process(tmp_path, shop, monkeypatch) -> None:
    monkeypatch.setattr(workers, "ALONE", 60.0)
    monkeypatch.setattr(workers, "_started", lambda bounds: pytest.fail("a process for nothing"))
    packed(shop, tmp_path / "catalog", 3)


def jobs(root: Path, count: int) -> list:
    return [[File(root, f"{n % 4 + 1}.jpg")] for n in range(count)]


def test_a_killed_process_is_one_line(shop, monkeypatch) -> None:
    monkeypatch.setattr(workers, "ALONE", 0.0)
    results = workers.in_order(iter(jobs(shop, 10_000)), BOUNDS, 2)
    next(results), next(results)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(MolarError) as error:
        list(results)
    assert str(error.value).startswith("a process that packs pictures was killed by signal 9 at one of 1 pictures, '")
    assert "\n" not in str(error.value) and "MOLAR_THREADS=1" in str(error.value)
    assert not multiprocessing.active_children()


def test_leaving_early_stops_at_once_and_leaves_no_process(shop, monkeypatch) -> None:
    monkeypatch.setattr(workers, "ALONE", 0.0)
    results = workers.in_order(iter(jobs(shop, 10_000)), BOUNDS, 2)
    next(results), next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5 and not multiprocessing.active_children()


ENDED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from pipeline.catalog import workers
from pipeline.catalog.places import Bounds, File

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
    workers.ALONE = 0.0
    results = workers.in_order(iter([[File(Path(sys.argv[1]), "1.jpg")]] * 1_000_000), Bounds(64, 10**8), 2)
    next(results), next(results)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    for _ in results:
        pass
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_no_process_outlives_an_ingest_that_is_killed_or_interrupted(tmp_path, shop, name) -> None:
    (tmp_path / "script.py").write_text(ENDED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(tmp_path / "script.py"), str(shop), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == -getattr(signal, name)
    said = [line for line in done.stderr.splitlines() if not line.startswith((" ", "Traceback"))]
    assert said == (["KeyboardInterrupt"] if name == "SIGINT" else []), "of this process alone"
    pids = done.stdout.split()
    assert len(pids) == 2
    until = time.monotonic() + 20
    while any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < until, "a process waits for nobody"
        time.sleep(0.05)


def test_no_more_than_a_few_batches_are_asked_for_ahead(shop, monkeypatch) -> None:
    monkeypatch.setattr(workers, "ALONE", 0.0)
    asked = 0

    def counted():
        nonlocal asked
        for job in jobs(shop, 1_000):
            asked += 1
            yield job

    results = workers.in_order(counted(), BOUNDS, 2)
    for _ in range(20):
        next(results)
    assert asked <= 20 + 2 * workers.WAITING
    results.close()


def test_what_is_no_place_stays_what_it_is(shop) -> None:
    assert encoded([None, "a reason", File(shop, "nowhere.jpg")], BOUNDS) == [
        None,
        "a reason",
        "picture file not found",
    ]


def test_the_module_of_the_workers_imports_little() -> None:
    code = "import sys, pipeline.catalog.workers; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pyarrow", "torch", "pydantic", "rich", "typer"} & set(loaded)
