"""A toy of the pipeline: the real params.yaml over four stages that take milliseconds, in a Git and DVC repository.

Every stage appends its name to the file that TOY_LOG names, so that executions can be counted. TOY_SLOW names a stage
that takes a minute and starts a process of its own, TOY_FAIL one that fails when the teacher is an fpmc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

DVC_YAML = """\
stages:
  ingest:
    cmd: python toy.py ingest
    deps:
      - toy.py
      - ${ingest.path}
    params: [ingest]
    outs:
      - data/catalog
  train_teacher:
    cmd: python toy.py train_teacher
    deps: [toy.py, data/catalog/part/users.txt]
    params: [seed, train_teacher]
    outs: [data/teacher]
  train_dueg:
    cmd: python toy.py train_dueg
    deps: [toy.py, data/catalog/part, data/teacher]
    params: [seed, train_dueg]
    outs: [data/dueg]
  evaluate:
    cmd: python toy.py evaluate
    deps: [toy.py, data/teacher, data/dueg]
    params: [protocol, evaluate]
    outs: [data/evaluation]
    metrics: [metrics.json]
"""

TOY = """\
import json, os, subprocess, sys, time
from pathlib import Path
from ruamel.yaml import YAML

stage = sys.argv[1]
params = YAML(typ="safe").load(Path("params.yaml"))
with open(os.environ["TOY_LOG"], "a") as log:
    log.write(f"{stage} {os.getpid()}\\\\n")
if os.environ.get("TOY_SLOW") == stage:
    child = subprocess.Popen(["setsid", "sleep", "61.5"])
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"child {child.pid}\\\\n")
    time.sleep(60)
if os.environ.get("TOY_FAIL") == stage and params["train_teacher"]["model"] == "fpmc":
    sys.exit("error: the loss is not a number")
out = {"ingest": "catalog/part", "train_teacher": "teacher", "train_dueg": "dueg", "evaluate": "evaluation"}[stage]
out = Path("data", out)
out.mkdir(parents=True)
if stage == "ingest":
    (out / "users.txt").write_text("users")
elif stage == "evaluate":
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    teacher, dueg = (json.loads(Path("data", n, "x.json").read_text()) for n in ("teacher", "dueg"))
    users = np.arange(40)
    seen = params["protocol"]["mask_seen"]
    columns = {"user_id": [f"u{u}" for u in users], "item_idx": users, "history_length": users + 1,
               "target_count": users % 25}
    shift = {"teacher": teacher["seed"], "dueg": dueg["seed"] + (0 if dueg["alpha"] else 9)}
    for system, worse in shift.items():
        for variant in ("masked", "unmasked"):
            columns[f"{system}_{variant}"] = (users * 7) % 40 + worse
    pq.write_table(pa.table(columns), out / "per_user.parquet")
    metrics = {}
    for system, worse in shift.items():
        ranks = columns[f"{system}_masked" if seen else f"{system}_unmasked"]
        found = {"ndcg@10": np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean(), "recall@10": (ranks < 10).mean()}
        found = {metric: round(float(value), 6) for metric, value in found.items()}
        metrics[system] = found | {"coverage@10": 0.5, "gini@10": 0.5, "debiased ndcg@10": 0.125}
    Path("metrics.json").write_text(json.dumps({"test": metrics, "difference": {}}))
else:
    own = params[stage]
    (out / "x.json").write_text(json.dumps(
        {"seed": params["seed"], "alpha": own.get("alignment", {}).get("weight"), "model": own["model"]}))
"""

TABLE = """\
title: A toy
source: a paper
data:
  demo: {differs: a toy}
  films: {preset: films, beside: F}
rows:
  whole:
    paper: {F: {ndcg@10: 0.25, recall@10: 0.5}}
  fpmc:
    set: {train_teacher.model: fpmc}
  unaligned:
    set: {train_dueg.alignment.weight: 0}
  IDs:
    system: teacher
  huge:
    set: {train_dueg.head.hidden: 4096}
    needs: {models/huge: someone/huge@0123abc}
    data: [films]
"""


class Toy:
    """A checkout, and `molar experiment` in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root.parent / "log.txt"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MOLAR_", "DVC_", "TOY_"))},
            **{f"GIT_{who}_{what}": "toy" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            "TOY_LOG": str(self.log),
            "COLUMNS": "80",
        }

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, env=self.environment, check=True, capture_output=True)

    def start(self, *arguments: str, **toy: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stages.cli", "experiment", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment | toy,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def molar(self, *arguments: str, status: int = 0, **toy: str) -> list[str]:
        """Lines of output and error together."""
        process = self.start(*arguments, **toy)
        output, _ = process.communicate()
        assert process.returncode == status, output
        return output.splitlines()

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process work in it."""
        monkeypatch.chdir(self.root)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def executions(self) -> list[str]:
        """Stages that have run since the last question, in order."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


def made(root: Path, dvc: bool = True) -> Toy:
    """A committed toy whose raw data DVC tracks, or that DVC does not know of, which costs less."""
    root.mkdir(parents=True)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "toy.py").write_text(TOY.replace("\\\\n", "\\n"))
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(ROOT / ".gitignore", root)
    shutil.copy(ROOT / ".dvcignore", root)
    (root / "experiments").mkdir()
    (root / "experiments" / "toy.yaml").write_text(TABLE)
    (root / "presets").mkdir()
    (root / "presets" / "films.yaml").write_text("protocol:\n  mask_seen: true\n")
    (root / "data/raw/demo").mkdir(parents=True)
    (root / "data/raw/demo/interactions.csv").write_text("user,item\n")
    toy = Toy(root)
    toy.git("init", "-q", "-b", "main")
    if dvc:
        (root / ".dvc").mkdir()  # what `dvc init` makes, at no cost
        (root / ".dvc" / "config").touch()
        (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
        command = [sys.executable, "-m", "dvc", "add", "-q", "data/raw/demo"]
        subprocess.run(command, cwd=root, env=toy.environment, check=True, capture_output=True)
    toy.git("add", "--all")
    toy.git("commit", "-qm", "toy")
    return toy
