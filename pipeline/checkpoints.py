"""Resume outside DVC's outs: scratch directories keyed by everything a result depends on, and the lock on them.

DVC deletes a stage's outs before it runs the stage, so half-finished work must live elsewhere. It lives under
`$MOLAR_SCRATCH` (default `.molar/`), in `<stage>/<key>`; the key digests params, inputs and code, so a changed
param never resumes the work of another. Same key found: resume. On success the stage's scratch is removed.
A second process of the same stage is refused: a scheduler that kills `dvc` alone leaves the trainer running.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import MolarError

IN_USE = "in-use.lock"  # in a folder that `using` uses


def scratch_root() -> Path:
    """`$MOLAR_SCRATCH`, else `.molar` here, as an absolute path."""
    return Path(os.environ.get("MOLAR_SCRATCH", ".molar")).absolute()


@contextmanager
def locked(stage: str) -> Iterator[None]:
    """Hold the stage's lock. Raises MolarError at once when another process holds it."""
    root = scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{stage}.lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise MolarError(
                f"{stage} is already running here (process {owner}): wait for it or end it, then run again"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def using(folder: Path, alone: bool = False) -> Iterator[None]:
    """Use a folder that runs with scratch roots of their own fill at once; `alone`, to remove something from it.

    Raises MolarError: `alone`, and somebody is filling it.
    """
    if alone and not folder.is_dir():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / IN_USE).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            raise MolarError(
                f"a run is filling {folder}, here or in an experiment's clone: wait for it or end it, then run again"
            ) from None
        yield


@contextmanager
def scratch(stage: str, key: str) -> Iterator[Path]:
    """A directory to checkpoint into: kept when the block fails or is killed, removed when it succeeds.

    Work of the same stage under another key is dropped at the start: its params, inputs or code are gone.
    """
    root = scratch_root() / stage
    directory = root / key
    if root.exists():
        for other in root.iterdir():
            if other != directory:
                shutil.rmtree(other, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
