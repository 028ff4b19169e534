"""Checkouts that share: one with a row computed, copies of it with an `origin`, colleagues' clones."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.experiments import records as kept
from pipeline.experiments.committed import Committed
from pipeline.experiments.points import points_of
from pipeline.experiments.table import parsed

from .toy import Toy, made


def with_one_row(root: Path) -> Toy:
    """`whole`, seed 0, which is what the committed params say."""
    toy = made(root)
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    subprocess.run(command, cwd=root, env=toy.environment, check=True, capture_output=True)
    kept.keep(root, address(toy, 0), root, Committed(root).sha, "data/raw/demo", [])
    for left in ("dvc.lock", "metrics.json"):
        (root / left).unlink()
    for out in ("catalog", "teacher", "dueg", "evaluation"):
        shutil.rmtree(root / "data" / out)
    toy.git("reset", "-q")
    toy.executions()
    return toy


def card(folder: Path, held_back: Mapping[str, str]) -> str:
    """In place of a model card, which a forged record has none of."""
    return f"A card of {folder.name}, without {sorted(held_back)}"


def forge(toy: Toy, seed: int, metrics: str = "{}") -> str:
    """A record as if `whole` had been run with that seed; its address."""
    digest = hashlib.md5(metrics.encode(), usedforsecurity=False).hexdigest()
    place, params = address(toy, seed), (toy.root / "params.yaml").read_text().replace("\nseed: 0", f"\nseed: {seed}")
    lock = f"stages:\n  evaluate:\n    cmd: x\n    outs:\n    - path: metrics.json\n      md5: {digest}\n"
    files = {
        "metrics.json": metrics,
        "per_user.parquet": "PAR1PAR1",
        "params.yaml": params,
        "dvc.lock": lock,
        kept.ABOUT: json.dumps({"commit": Committed(toy.root).sha, "stages": []}),
    }
    kept.put(toy.root, place, {name: text.encode() for name, text in files.items()})
    return place


def address(toy: Toy, seed: int) -> str:
    """Of the row `whole`."""
    table = parsed((toy.root / "experiments" / "toy.yaml").read_text(), "toy")
    return points_of("toy", table, Committed(toy.root), "demo", [seed], ["whole"])[0].address


def copied(toy: Toy, folder: Path, config: str) -> Toy:
    """The toy again, with DVC's `config` and an empty `origin` of its own."""
    shutil.copytree(toy.root, folder / "mine" / "checkout", symlinks=True)
    copy = Toy(folder / "mine" / "checkout")
    copy.environment["HOME"] = str(folder)  # no key, host or credential of whoever runs the tests
    (copy.root / ".dvc" / "config.local").write_text(config)
    with_origin(copy, folder / "origin.git")
    return copy


def with_origin(toy: Toy, origin: Path) -> None:
    toy.git("init", "-q", "--bare", "-b", "main", str(origin))
    toy.git("remote", "add", "origin", str(origin))
    toy.git("push", "-q", "origin", "main")


def clone(toy: Toy, folder: Path, config: str = "") -> Toy:
    """A colleague's, on a machine of their own."""
    toy.git("clone", "-q", str(toy.root.parent.parent / "origin.git"), str(folder / "checkout"))
    theirs = Toy(folder / "checkout")
    theirs.environment["HOME"] = str(folder)
    if config:
        (theirs.root / ".dvc" / "config.local").write_text(config)
    return theirs


def records(toy: Toy) -> dict[str, bytes]:
    found = (toy.root / kept.FOLDER / "records").glob("*/*")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def cached(folder: Path) -> set[str]:
    """Contents in a cache or a remote."""
    return {path.relative_to(folder).as_posix() for path in (folder / "files/md5").rglob("*") if path.is_file()}
