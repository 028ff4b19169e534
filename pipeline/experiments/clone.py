"""The place where rows are computed: a clone of the last commit that shares this checkout's DVC cache.

Why no `dvc exp run` in the checkout: its overrides stay in params.yaml, where the next row finds them; it holds the
checkout for as long as the table takes, and a second command fails on its lock; `--queue` is known to stall, `--temp`
was measured to run the code of the main checkout. In a clone with the same cache a row is plain `dvc repro`: what any
row, or the checkout itself, has run comes from the run-cache, the user's files are left alone, and a clone that a kill
left in whatever state is thrown away, for everything of value is in the cache or in a record.

Between rows only params.yaml is replaced: dvc.lock and data are those of the row before, and agree with each other.

Several clones may be at work at once (parallel.py). Each has its own workspace, locks and DVC state; in the cache DVC
writes contents and records of runs beside their place and renames them, and equal contents that come twice are one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.errors import MolarError
from pipeline.experiments.cache import Cache
from pipeline.experiments.committed import Committed, resolved
from pipeline.experiments.devices import environment_of
from pipeline.experiments.guard import guarded
from pipeline.experiments.points import Point
from pipeline.experiments.table import MODELS


@dataclass(frozen=True)
class Clone:
    """A clone at `root`, made by `made`."""

    root: Path
    cache: Path  # of DVC, shared with the checkout
    environment: dict[str, str]
    guards: list[subprocess.Popen[str]] = field(default_factory=list)  # of what is running in it

    def repro(
        self, point: Point, log: Path, lock: int, stage: str | None = None, scratch: Path | None = None
    ) -> Generator[str]:
        """Bring params.yaml to the point's and reproduce; lines of output as they come, all of them into `log` too.

        With `stage` no more than what that one needs; `scratch` is for its checkpoints. `lock` is held until the last
        process has ended. Closing the iterator ends them. Raises MolarError: it failed.
        """
        (self.root / "params.yaml").write_text(point.text, "utf-8")
        mine = {"MOLAR_SCRATCH": str(scratch.absolute())} if scratch else {}
        return self.python(["-m", "dvc", "repro", *([stage] if stage else [])], log, lock, str(point), mine)

    def python(
        self, arguments: list[str], log: Path, lock: int, what: str, extra: Mapping[str, str] | None = None
    ) -> Generator[str]:
        """The same of any command of this python; `what` it does, for the error; `extra` is its environment's."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command, environment = [sys.executable, *arguments], self.environment | dict(extra or {})
        with log.open("a", encoding="utf-8") as written, self._guarded(command, environment, lock) as process:
            assert process.stdout is not None
            for line in process.stdout:
                written.write(line)
                written.flush()
                yield line.rstrip("\n")
            if process.wait():
                raise MolarError(f"{what} failed: {_reason(log)}")

    def end(self) -> None:
        """End what is running in it, from any thread; whoever reads its lines sees it fail."""
        for process in list(self.guards):
            assert process.stdin is not None
            process.stdin.close()

    @contextmanager
    def _guarded(self, command: list[str], environment: dict[str, str], lock: int) -> Iterator[subprocess.Popen[str]]:
        with guarded(command, self.root, environment, lock) as process:
            self.guards.append(process)
            try:
                yield process
            finally:
                self.guards.remove(process)


def made(checkout: Committed, folder: Path, lock: int, device: str | None = None, like: Clone | None = None) -> Clone:
    """A fresh clone of that commit in `folder`, whose last content goes; data that the commit knows is put into it.

    It computes on `device`, or wherever the environment says. What `like`, another one, knows is not asked again.
    `lock` is held by whatever fills the folder, so that the next run waits for it even if this process is killed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(checkout.root, folder.with_name(f"{folder.name}.scratch"))
    environment |= environment_of(device) if device else {}
    _done(["git", "clone", "-q", "--no-checkout", str(checkout.root), str(folder)], checkout.root, environment, lock)
    _done(["git", "checkout", "-q", "--detach", checkout.sha], folder, environment, lock)  # HEAD may have moved since
    dvc = [sys.executable, "-m", "dvc"]
    local = (like.root if like else checkout.root) / ".dvc" / "config.local"  # remotes and their secrets
    if local.is_file():
        shutil.copy(local, folder / ".dvc" / "config.local")
    if like:
        cache = like.cache
    else:
        cache = Path(_done([*dvc, "cache", "dir"], checkout.root, environment, lock).strip())
        cache = (checkout.root / cache).resolve()
        _done([*dvc, "cache", "dir", "--local", str(cache)], folder, environment, lock)
    _forget_lost(folder / "dvc.lock", Cache(cache))
    _done([*dvc, "checkout", "-q", "--allow-missing"], folder, environment, lock)
    if (checkout.root / MODELS).is_dir() and not (folder / MODELS).exists():  # neither Git nor DVC brings them along
        (folder / MODELS).symlink_to((checkout.root / MODELS).resolve())
    return Clone(folder, cache, environment)


def _forget_lost(lock: Path, cache: Cache) -> None:
    """Take the stages whose outs the cache lacks out of a dvc.lock.

    DVC takes a locked stage that has not changed at its word: where those outs are not at hand it computes them, and
    does not ask the run-cache, which may have a run of that stage with other bytes, as another processor rounds them.
    """
    if not lock.is_file():
        return
    yaml = YAML()
    document = yaml.load(lock)
    stages = document["stages"]
    for name in [*stages]:
        if not all(cache.whole(out["md5"]) for out in stages[name].get("outs", [])):
            del stages[name]
    yaml.dump(document, lock)


def missing_data(clone: Clone, checkout: Committed, points: list[Point]) -> str | None:
    """The first raw folder that a stage reads, and that neither the clone nor any stage has; None if there is none."""
    made_here = [out for stage in checkout.stages.values() for out in outs_of(stage)]
    for point in points:
        for stage in checkout.stages.values():
            for dep in (resolved(dep, point.values) for dep in stage.get("deps", [])):
                inside = any(dep == out or dep.startswith(f"{out}/") for out in made_here)
                if not inside and not (clone.root / dep).exists():
                    return (
                        f"{point.data} needs {dep}, which is not in the last commit: put the data there, then "
                        f"`dvc add {dep}`, `git add {dep}.dvc` and commit (docs/sources.md, docs/download.md)"
                    )
    return None


def outs_of(stage: dict) -> list[str]:
    """Paths that a stage of dvc.yaml writes."""
    listed = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def _environment(root: Path, scratch: Path) -> dict[str, str]:
    """The user's own, with this python first, and checkpoints apart from those of others that may be at work."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") and name != "PYTHONPATH"}
    return (
        {"MOLAR_CACHE": str(Path(os.environ.get("MOLAR_SCRATCH", root / ".molar")).absolute() / "embeddings")}
        | kept
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MOLAR_SCRATCH": str(scratch.absolute()),
            "PYTHONUNBUFFERED": "1",  # lines in the order in which they were said
            "DVC_NO_ANALYTICS": "1",
        }
    )


def _done(command: list[str], cwd: Path, environment: dict[str, str], lock: int) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, pass_fds=(lock,)
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no words"])[-1]
        name = " ".join(part for part in command if part not in (sys.executable, "-m"))
        raise MolarError(f"`{name}` failed: {words}")
    return done.stdout


def _reason(log: Path) -> str:
    """The line that says why, where the log can be read on."""
    lines = [line.strip() for line in log.read_text("utf-8").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("error:", "ERROR:"))]
    ours = [line for line in told if line.startswith("error:")]  # a stage's own word, before DVC's
    return f"{(ours or told or lines or ['no output'])[0]} (all of it: {os.path.relpath(log)})"
