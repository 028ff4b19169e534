"""Rows of a table: named sets of params, each run by `dvc repro` in a clone of this checkout.

Promise: every row starts from the committed params.yaml (or a preset over it), so no row inherits another's overrides;
clones share this checkout's DVC cache, so equal stages are computed once; a row whose results are there is not run
again. The clones hold the last commit: what is not committed is not measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from ruamel.yaml import YAML

Overrides = Mapping[str, object]  # "train_dueg.alignment.weight": 0.0


def compute(
    rows: Mapping[str, Overrides],
    results: Path,
    kept: tuple[str, ...],
    jobs: int,
    preset: str | None = None,
    after: tuple[str, ...] = (),
    stages: tuple[str, ...] = (),
) -> None:
    """Run every row that is not there yet, `jobs` at a time, one thread each; of the files `kept` keep those it has.

    `after` is a command (arguments of python) that is run in the clone once the `stages` (all) are done.
    """
    results.mkdir(parents=True, exist_ok=True)
    ours = str(Path(sys.executable).parent)  # DVC runs `python -m stages.x`: that python must be this one
    os.environ |= {"OMP_NUM_THREADS": "1", "MOLAR_THREADS": "1", "PATH": f"{ours}{os.pathsep}{os.environ['PATH']}"}
    clones: SimpleQueue[Path] = SimpleQueue()
    for job in range(jobs):
        clone = results / f"clone{job}"
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", ".", str(clone)], check=True)
        local = ["dvc", "cache", "dir", "--local", str(Path(".dvc/cache").absolute())]
        subprocess.run([sys.executable, "-m", *local], cwd=clone, check=True)
        clones.put(clone)

    def work(name: str) -> None:
        clone = clones.get()
        try:
            _row(clone, name, rows[name], results, kept, preset, after, stages)
        finally:
            clones.put(clone)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, rows))


def _row(
    clone: Path,
    name: str,
    overrides: Overrides,
    results: Path,
    kept: tuple[str, ...],
    preset: str | None,
    after: tuple[str, ...],
    stages: tuple[str, ...],
) -> None:
    """Bring one clone to the row's params, reproduce, keep the results."""
    target = results / name
    if (target / Path(kept[0]).name).exists():
        return
    subprocess.run(["git", "checkout", "-q", "--", "params.yaml"], cwd=clone, check=True)
    log = results / f"{name}.log"
    with log.open("w") as handle:

        def run(*arguments: str) -> None:
            done = subprocess.run([sys.executable, *arguments], cwd=clone, stdout=handle, stderr=handle)
            if done.returncode:
                raise SystemExit(f"{name} failed: see {log}")

        if preset:
            run("-m", "stages.cli", "preset", preset, "--write")
        _override(clone / "params.yaml", overrides)
        run("-m", "dvc", "repro", *stages)
        if after:
            run(*after)
    target.mkdir(parents=True, exist_ok=True)
    for file in reversed(kept):  # the first last: its presence means the row is whole
        if (clone / file).exists():
            shutil.copy(clone / file, target / Path(file).name)


def _override(path: Path, overrides: Overrides) -> None:
    """Set the keys in the file, comments kept."""
    yaml = YAML()
    params = yaml.load(path)
    for key, value in overrides.items():
        *parents, last = key.split(".")
        section = params
        for part in parents:
            section = section[part]
        section[last] = value
    yaml.dump(params, path)
