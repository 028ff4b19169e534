"""What every stage does the same way: one-line errors, the stage's lock, its scratch, its closing line.

A stage is a Typer command of this shape::

    @command
    def main() -> None:
        with running("train_teacher") as run:
            ...
            run.done("SASRec, 31 epochs, validation NDCG@10 .182", TEACHER)
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pipeline import artifacts, checkpoints
from pipeline.errors import MolarError
from pipeline.progress import console, say


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A user's mistake becomes one line and exit status 1; Ctrl-C says that a rerun resumes."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except MolarError as error:
            console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
            sys.exit(1)
        except KeyboardInterrupt:
            say("interrupted: run the same command again to go on")
            sys.exit(130)

    return wrapped


class Run:
    """One execution of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._start = time.monotonic()

    def scratch(self) -> AbstractContextManager[Path]:
        """The stage's checkpoint directory, keyed by its params, inputs and code as dvc.yaml lists them."""
        return checkpoints.scratch(self.stage, stage_key(self.stage))

    def done(self, what: str, where: Path) -> None:
        """The stage's one line: what, how long, where."""
        say(f"{self.stage}: {what} in {time.monotonic() - self._start:.0f} s -> {where}")


@contextmanager
def running(stage: str) -> Iterator[Run]:
    """Hold the stage's lock for the length of the block."""
    with checkpoints.locked(stage):
        yield Run(stage)


def stage_key(stage: str) -> str:
    """Digest of what dvc.yaml says the stage depends on: param values, contents of inputs and code."""
    from ruamel.yaml import YAML

    from pipeline.params import load_params

    entry = YAML(typ="safe").load(Path("dvc.yaml"))["stages"][stage]
    params = load_params().model_dump(mode="json")
    digest = hashlib.sha256(json.dumps({name: params[name] for name in entry["params"]}, sort_keys=True).encode())
    for dep in sorted(entry["deps"]):
        path = Path(dep.replace("${ingest.path}", params["ingest"]["path"]))
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.as_posix()} {artifacts.sha256(file)}\n".encode())
    return digest.hexdigest()[:16]
