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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pipeline import artifacts, checkpoints, processes
from pipeline.errors import MolarError
from pipeline.progress import console, say

GRACE_SECONDS = 3.0  # a launcher notices a process that ended within a tenth of one
EMBEDDING = ("embed_items", "train_dueg")  # stages that fill the cache of embeddings, the second in joint training
LOWER = {  # params that decide how much memory a training takes
    "train_teacher": "train_teacher.training.batch_size",
    "finetune_mirm": "finetune_mirm.batch_tokens, or set gradient_checkpointing or tuning: lora",
    "train_dueg": "train_dueg.training.batch_size, of joint training train_dueg.joint.batch_tokens",
}


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A user's mistake becomes one line and exit status 1; Ctrl-C says that a rerun resumes."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with _others_first():
                function(*args, **kwargs)
        except MolarError as error:
            _tell(f"error: {error}", style="red")
            sys.exit(1)
        except KeyboardInterrupt:
            _tell("interrupted: run the same command again to go on")
            sys.exit(130)

    return wrapped


def _tell(line: str, style: str | None = None) -> None:
    """Why it ends; of several processes, which end together, one says so."""
    if processes.first_to_tell():
        console.quiet = False
        console.print(line, style=style, soft_wrap=True, markup=False)


@contextmanager
def _others_first() -> Iterator[None]:
    """Of several processes one that fails lets the others see their messages fail; the launcher then ends these.

    So they wait before they say so: if the cause is told elsewhere, nobody needs their tracebacks.
    """
    try:
        yield
    except RuntimeError:
        if processes.count() > 1:
            time.sleep(GRACE_SECONDS)
        raise


class Run:
    """One execution of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._start = time.monotonic()

    def scratch(self) -> AbstractContextManager[Path]:
        """The stage's checkpoint directory, keyed by its params, inputs and code as dvc.yaml lists them.

        Of several processes the first makes and removes it; the others may use it once all have met.
        """
        key = stage_key(self.stage)
        if processes.is_first():
            return checkpoints.scratch(self.stage, key)
        return nullcontext(checkpoints.scratch_root() / self.stage / key)

    def done(self, what: str, where: Path) -> None:
        """The stage's one line: what, how long, where."""
        say(f"{self.stage}: {what} in {time.monotonic() - self._start:.0f} s -> {where}")


@contextmanager
def running(stage: str, shared: bool = False) -> Iterator[Run]:
    """Hold the stage's lock for the length of the block; of several processes that share the work the first does.

    Raises MolarError: the stage is running already, was launched in several processes and is not `shared`, or is a
    training that does not fit into memory.
    """
    if processes.count() > 1 and not shared:
        raise MolarError(f"{stage} runs in one process: start it without a launcher, as `python -m stages.{stage}`")
    with checkpoints.locked(stage) if processes.is_first() else nullcontext(), _no_pruning(stage):
        try:
            yield Run(stage)
        except RuntimeError as error:
            if stage not in LOWER or not _is_out_of_memory(error):
                raise
            why = " ".join(str(error).split())[:200]
            raise MolarError(f"{stage} does not fit into memory ({why}): lower {LOWER[stage]}") from None
    if shared:
        processes.leave()


def _no_pruning(stage: str) -> AbstractContextManager[None]:
    """Keep `molar cache` from removing what the stage fills: the stage's own lock is its scratch root's alone."""
    if stage not in EMBEDDING:
        return nullcontext()
    from pipeline.mirm.cache import cache_root

    return checkpoints.using(cache_root())


def _is_out_of_memory(error: RuntimeError) -> bool:
    from pipeline.mirm.rows import is_out_of_memory  # what asks has loaded torch long since

    return is_out_of_memory(error)


def stage_key(stage: str) -> str:
    """Digest of what dvc.yaml says the stage depends on: param values, contents of inputs and code.

    And of a local backbone's files, which dvc.yaml cannot name. Raises MolarError: an input is absent.
    """
    from ruamel.yaml import YAML

    from pipeline.params import load_params

    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    entry = stages[stage]
    params = load_params().model_dump(mode="json")
    digest = hashlib.sha256(json.dumps({name: params[name] for name in entry["params"]}, sort_keys=True).encode())
    inputs = [Path(dep.replace("${ingest.path}", params["ingest"]["path"])) for dep in sorted(entry["deps"])]
    if "finetune_mirm" in entry["params"]:
        inputs += _local_backbone(params["finetune_mirm"]["backbone"])
    for path in inputs:
        if not path.exists():  # told before a scratch is opened, which would drop what others have left there
            raise _absent(path, stage, stages)
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.as_posix()} {artifacts.sha256(file)}\n".encode())
    return digest.hexdigest()[:16]


def _local_backbone(name: str) -> list[Path]:
    """The folder that params name, if it is one: no dep of dvc.yaml, yet adapters of the one fit no other.

    By content, as `molar.json` names it: a copy with other times goes on.
    """
    return [Path(name)] if name != "tiny" and Path(name).is_dir() else []


def _absent(path: Path, stage: str, stages: dict[str, Any]) -> MolarError:
    """What to do about an input that is not there: run the stage that makes it; code is restored."""
    outs = [(name, out) for name, entry in stages.items() for out in entry.get("outs", [])]  # some as {path: settings}
    makers = [name for name, out in outs if path.is_relative_to(out if isinstance(out, str) else next(iter(out)))]
    how = f"run `dvc repro {makers[0]}`" if makers else f"restore it, as `git restore {path}` does"
    return MolarError(f"{path}, which {stage} reads, is missing: {how}")
