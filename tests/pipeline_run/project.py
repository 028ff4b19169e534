"""A miniature project of one's own: the code and params of this one in a fresh Git and DVC repository, tiny budgets.

`Project.dvc("repro")` runs DVC as a person would and says which stages ran and which came from the run-cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ..conftest import ROOT, merged
from ..import_closure import dvc_stages

CODE = ("stages", "pipeline", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", ".dvc/config", "data/raw/.gitkeep")

STAGES = ("demo", "ingest", "train_teacher", "finetune_mirm", "embed_items", "train_dueg", "build_index", "evaluate")

# Every stage does its real work in a second or two; what comes out is no good, and need not be.
MINIATURE: dict[str, Any] = {
    "demo": {"users": 60, "items": 60, "cold_items": 6, "mean_events": 8, "max_events": 12},
    "train_teacher": {"sasrec": {"dim": 16, "layers": 1}, "training": {"max_epochs": 4}},
    "finetune_mirm": {
        "steps": 10,
        "batch_size": 4,
        "warmup_steps": 2,
        "max_text_tokens": 32,
        "tiny": {
            "hidden": 32,
            "layers": 1,
            "heads": 2,
            "kv_heads": 1,
            "mlp": 32,
            "vocabulary": 400,
            "vision_dim": 16,
            "vision_layers": 1,
            "vision_heads": 2,
        },
    },
    "train_dueg": {
        "sasrec": {"dim": 16, "layers": 1},
        "head": {"hidden": 16},
        "training": {"max_epochs": 4},
    },
    "evaluate": {"bootstrap": 100},
    "runtime": {"device": "cpu", "threads": 1},
}


@dataclass(frozen=True)
class Ran:
    """Which stages one DVC command ran, restored from the run-cache, or found unchanged, in order."""

    ran: list[str]
    restored: list[str]
    unchanged: list[str]


@dataclass(frozen=True)
class Project:
    """A folder with the code, and the environment to run it in: nothing is shared with the user's own DVC."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        identity = {f"GIT_{who}_{what}": "molar" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MOLAR_", "DVC_"))
        }
        return (
            inherited
            | identity
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MOLAR_SCRATCH": str(self.scratch),
                "DVC_SITE_CACHE_DIR": str(self.root.parent / "site-cache"),
                "DVC_NO_ANALYTICS": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": "",
            }
        )

    @property
    def scratch(self) -> Path:
        return self.root / ".molar"

    def run(self, *command: str) -> str:
        """Standard output and error together; AssertionError with them when the command fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str) -> Ran:
        output = self.run(sys.executable, "-m", "dvc", *arguments)
        return Ran(
            ran=re.findall(r"^Running stage '(\w+)'", output, re.M),
            restored=re.findall(r"^Stage '(\w+)' is cached - skipping run", output, re.M),
            unchanged=re.findall(r"^Stage '(\w+)' didn't change", output, re.M),
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "-qm", message)

    def set_params(self, changes: dict[str, Any]) -> None:
        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        path = self.root / "params.yaml"
        values = merged(yaml.load(path.read_text("utf-8")), changes)
        with path.open("w", encoding="utf-8") as handle:
            yaml.dump(values, handle)

    def restore(self) -> None:
        """Params, dvc.lock and data as they were committed (HEAD, not the index: autostage has added the new lock)."""
        self.run("git", "checkout", "-q", "HEAD", "--", "params.yaml", "dvc.lock")
        self.dvc("checkout", "-q")

    def digests(self, stage: str) -> dict[str, str]:
        """SHA-256 of every file that `stage` wrote, by its path in the project."""
        entry = dvc_stages(self.root / "dvc.yaml")[stage]
        outs = [
            next(iter(out)) if isinstance(out, dict) else out for out in (*entry["outs"], *entry.get("metrics", []))
        ]
        files = [file for out in outs for file in sorted_files(self.root / out)]
        return {path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sorted_files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def copy_code(root: Path, changes: dict[str, Any], origin: Path = ROOT) -> Project:
    """The code and params of `origin` (with `changes`) in an empty folder: no data, no Git, no DVC cache."""
    for name in CODE:
        source, target = origin / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    project = Project(root)
    project.set_params(changes)
    return project


def new_project(root: Path) -> Project:
    """The same as a Git and DVC repository with one commit."""
    project = copy_code(root, MINIATURE)
    project.run("git", "init", "-q", "-b", "main")
    project.commit("code")
    return project


def sandbox(project: Project, root: Path, stage: str, changes: dict[str, Any]) -> Project:
    """A folder with what dvc.yaml says that `stage` depends on, and nothing else.

    Beside the deps that is: manifests of the data it reads (they describe content that is a dep), and the declared
    modules that cannot change a result, as tests/import_closure.py lists them.
    """
    entry = dvc_stages(project.root / "dvc.yaml")[stage]
    alone = copy_code(root, merged(MINIATURE, changes), project.root)
    kept = {alone.root / dep for dep in entry["deps"] if dep.endswith(".py")} | presentation(alone.root)
    for path in (*alone.root.glob("pipeline/**/*.py"), *alone.root.glob("stages/**/*.py")):
        if path not in kept:
            path.unlink()
    for dep in entry["deps"]:
        if dep.endswith(".py"):
            continue
        source = project.root / dep.replace("${ingest.path}", "data/raw/demo")
        target = alone.root / source.relative_to(project.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        manifest = source.parent / "manifest.json"
        if manifest.is_file():
            shutil.copy(manifest, target.parent)
    return alone


def presentation(root: Path) -> set[Path]:
    """Files of the declared modules, and packages' docstring-only `__init__.py`."""
    from ..import_closure import PRESENTATION

    files = set(root.glob("pipeline/**/__init__.py")) | {root / "stages" / "__init__.py"}
    for module in PRESENTATION:
        path = root.joinpath(*module.split("."))
        files |= set(path.glob("*.py")) | {path.with_suffix(".py")}
    return files


def main(arguments: list[str]) -> None:
    """`python -m tests.pipeline_run.project FOLDER`: give that copy of the project the miniature's params."""
    Project(Path(*arguments)).set_params(MINIATURE)


if __name__ == "__main__":
    main(sys.argv[1:])
