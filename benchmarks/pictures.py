"""How fast does `ingest` pack pictures? Beside what two processes of plain Pillow reach with nothing else to do.

    python -m benchmarks.pictures                           5,000 and 50,000 pictures, three rounds; about half an hour
    python -m benchmarks.pictures --counts 400 --rounds 1   a look

Draws 1,000 distinct JPEGs of 800 x 600 (gradients and noise, about 240 kB each) and refers to them as often as it
takes: from images.zip, or from a folder of hard links. In one run and in turns: `pillow` opens, decodes, shrinks to
224 pixels and encodes every picture in `--processes` processes that share nothing (start-up not counted); `ours` is
what the stage runs, start-up of its processes and Parquet included. Peak memory is that of the whole tree of processes,
looked at every 50 ms; pages that processes share count in each.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

DISTINCT, SIZE, SIDE, QUALITY = 1_000, (800, 600), 224, 90
LOOK_SECONDS = 0.05


def generate(folder: Path, distinct: int) -> list[Path]:
    """The distinct pictures."""
    folder.mkdir()
    x, y = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]))
    paths = []
    for n in range(distinct):
        rng = np.random.default_rng(n)
        slope = rng.uniform(-1, 1, (2, 3))
        light = 0.5 + 0.4 * (x[..., None] * slope[0] + y[..., None] * slope[1]) / np.abs(slope).sum(0)
        grain = rng.normal(0, 0.08, (SIZE[1] // 2, SIZE[0] // 2, 3)).repeat(2, 0).repeat(2, 1)
        paths.append(folder / f"{n}.jpg")
        Image.fromarray(((light + grain).clip(0, 1) * 255).astype(np.uint8)).save(paths[-1], "JPEG", quality=QUALITY)
    return paths


def arrange(root: Path, pictures: list[Path], count: int, place: str) -> None:
    """Tables of `count` items, and their pictures in an archive (each distinct one once) or a folder."""
    root.mkdir()
    in_archive = place == "archive"
    names = [f"{n % len(pictures) if in_archive else n}.jpg" for n in range(count)]
    (root / "items.csv").write_text("id,title,image\n" + "".join(f"i{n},Item {n},{p}\n" for n, p in enumerate(names)))
    (root / "interactions.csv").write_text(
        "user,item,timestamp\n" + "".join(f"u{n % (count // 5)},i{n},{n}\n" for n in range(count))
    )
    if in_archive:
        with zipfile.ZipFile(root / "images.zip", "w", zipfile.ZIP_STORED) as archive:
            for path in pictures:
                archive.write(path, path.name)
        return
    (root / "images").mkdir()
    for n, name in enumerate(names):
        os.link(pictures[n % len(pictures)], root / "images" / name)


def pillow(pictures: list[Path], count: int, processes: int) -> float:
    """Seconds that plain Pillow takes."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    shares = [[pictures[n % len(pictures)] for n in range(first, count, processes)] for first in range(processes)]
    running = [context.Process(target=_plain, args=(share, ready, go)) for share in shares]
    for process in running:
        process.start()
    for _ in running:
        ready.acquire()
    start = time.perf_counter()
    go.set()
    for process in running:
        process.join()
    return time.perf_counter() - start


def _plain(paths, ready, go) -> None:  # type: ignore[no-untyped-def]
    Image.init()
    ready.release()
    go.wait()
    for path in paths:
        with Image.open(path) as image:
            image.load()
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            image.save(io.BytesIO(), "JPEG", quality=QUALITY)


def ours(root: Path, processes: int) -> float:
    """Seconds of the packing alone, within a whole ingest."""
    from pipeline import artifacts
    from pipeline.catalog import build as module
    from pipeline.params import load_params

    params = load_params().ingest
    absent = {"text": None, "caption": None, "summary": None}
    columns = params.columns.model_copy(update=absent)
    changes = {"path": str(root), "columns": columns, "cold_items": "none", "max_quarantine": 0.0, "image_size": SIDE}
    seconds = 0.0
    packing = module.write_items

    def timed(*args):  # type: ignore[no-untyped-def]
        nonlocal seconds
        start = time.perf_counter()
        result = packing(*args)
        seconds = time.perf_counter() - start
        return result

    module.write_items = timed
    with artifacts.write(root.parent / "catalog") as out:
        module.build(params.model_copy(update=changes), out, processes)
    return seconds


def watched(root: Path, processes: int) -> tuple[float, float]:
    """`ours` in a process of its own: its seconds, and the peak MiB of its whole tree."""
    command = [sys.executable, "-m", "benchmarks.pictures", "--root", str(root), "--processes", str(processes)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0.0

    def look() -> None:
        nonlocal peak
        while child.poll() is None:
            peak = max(peak, sum(_resident(pid) for pid in _tree(child.pid)))
            time.sleep(LOOK_SECONDS)

    looking = threading.Thread(target=look)
    looking.start()
    said, complaint = child.communicate()
    looking.join()
    if child.returncode:
        raise SystemExit(complaint)
    return float(said), peak


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _resident(pid: int) -> float:
    """MB."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # it has ended
        return 0.0


def main(
    counts: Annotated[str, typer.Option(help="Numbers of pictures, separated by commas.")] = "5000,50000",
    places: Annotated[str, typer.Option(help="archive, folder or both, separated by a comma.")] = "archive,folder",
    processes: Annotated[int, typer.Option(help="How many decode.")] = 2,
    rounds: Annotated[int, typer.Option(help="The tools take turns; the best of each counts.")] = 3,
    distinct: Annotated[int, typer.Option(help="Distinct pictures.")] = DISTINCT,
    root: Annotated[Path | None, typer.Option(help="Internal: pack this one.")] = None,
) -> None:
    """Generate, measure, print a table."""
    if root is not None:
        print(ours(root, processes))
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        pictures = generate(folder / "drawn", distinct)
        size = sum(path.stat().st_size for path in pictures) / len(pictures)
        print(f"{distinct:,} distinct JPEGs, {SIZE[0]} x {SIZE[1]}, {size / 1000:.0f} kB each; {processes} processes")
        print("| pictures | from | Pillow, 1/s | ours, 1/s | ours / Pillow | peak MiB |\n|---|---|---|---|---|---|")
        for count in map(int, counts.split(",")):
            for place in places.split(","):
                raw = folder / f"{place}-{count}"
                arrange(raw, pictures, count, place)
                turns = [(pillow(pictures, count, processes), *watched(raw, processes)) for _ in range(rounds)]
                plain, mine = (count / min(turn[i] for turn in turns) for i in (0, 1))
                peak = max(turn[2] for turn in turns)
                row = f"{count:,} | {place} | {plain:,.1f} | {mine:,.1f} | {mine / plain:.2f} | {peak:,.0f}"
                print(f"| {row} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
