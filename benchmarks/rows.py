"""Rows of a benchmark's table: named sets of params, each run by `dvc repro` in a clone, several clones at a time.

The clones are those of `molar experiment run` (pipeline/experiments/clone.py): of the last commit, sharing this
checkout's DVC cache, so that equal stages are computed once. Beyond it a benchmark may stop after some stages, run a
command of its own in the clone and keep other files. Every row starts from the committed params.yaml (or a preset over
it), so no row inherits another's overrides; a row whose results are there is not run again, unless its params differ.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from pipeline.errors import MolarError
from pipeline.experiments.clone import Clone, made
from pipeline.experiments.committed import Committed
from pipeline.params.document import apply, override, parse, text_of

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
    os.environ |= {"OMP_NUM_THREADS": "1", "MOLAR_THREADS": "1"}
    committed = Committed(Path.cwd())
    commands = [("-m", "dvc", "repro", *stages), *([after] if after else [])]
    clones: SimpleQueue[Clone] = SimpleQueue()
    for job in range(jobs):
        clones.put(made(committed, results / f"clone{job}"))

    def work(name: str) -> None:
        clone = clones.get()
        try:
            text = _params(committed, preset, rows[name], name)
            _row(clone, name, text, commands, results, kept)
        finally:
            clones.put(clone)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(work, rows))
        except KeyboardInterrupt:
            os._exit(130)  # waits for no row: the clones' guards end what runs in them


def _params(committed: Committed, preset: str | None, overrides: Overrides, name: str) -> str:
    """The row's params.yaml."""
    document = parse(committed.text("params.yaml"), "params.yaml")
    if preset:
        path = f"presets/{preset}.yaml"
        apply(document, parse(committed.text(path), path))
    for key, value in overrides.items():
        override(document, key, value, name)
    return text_of(document)


def _row(
    clone: Clone, name: str, text: str, commands: list[tuple[str, ...]], results: Path, kept: tuple[str, ...]
) -> None:
    """Bring one clone to the row's params, reproduce, keep the results."""
    target, log = results / name, results / f"{name}.log"
    done = target / "params.yaml"
    if (target / Path(kept[0]).name).exists() and done.exists() and done.read_text("utf-8") == text:
        return
    shutil.rmtree(target, ignore_errors=True)
    (clone.root / "params.yaml").write_text(text, "utf-8")
    log.unlink(missing_ok=True)
    try:
        with (results / "lock").open("a") as lock:
            for command in commands:
                for _ in clone.python(list(command), log, lock.fileno(), name):
                    pass
    except MolarError as error:
        raise SystemExit(str(error)) from None
    target.mkdir(parents=True, exist_ok=True)
    for file in kept:
        if (clone.root / file).exists():
            shutil.copy(clone.root / file, target / Path(file).name)
    done.write_text(text, "utf-8")  # last: a row without it is not whole
