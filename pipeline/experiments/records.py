"""What is kept of each run: `.molar/experiments/records/<digest of code>-<digest of params>/`.

Two tables, or two rows, that ask for the same run share its record. A record is whole or absent: it is written beside
its place and then renamed. The run-cache has every stage's outs as well, so that a deleted record costs seconds.

    metrics.json  per_user.parquet  params.yaml  dvc.lock     of the run; dvc.lock names every artifact by content
    summary.json                                              of the catalogue, where `ingest` makes one
    record.json                         the commit, the data, what each stage took or came from, the machine
    README.md                                                 its model card, once it has been sent (share.py)
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pipeline.errors import MolarError
from pipeline.progress import say

FOLDER = Path(".molar/experiments")
KEPT = ("metrics.json", "data/evaluation/per_user.parquet", "params.yaml", "dvc.lock")
KEPT_IF_MADE = ("data/catalog/summary.json",)
NAMES, NAMES_IF_MADE = (tuple(Path(name).name for name in names) for names in (KEPT, KEPT_IF_MADE))  # in the folder
ABOUT = "record.json"
PARQUET = b"PAR1"  # opens and closes such a file
LOCKED_METRICS = re.compile(rb"- path: metrics\.json\n(?: +(?!md5)\w+: .*\n)* +md5: (\w+)")  # as DVC writes it
CARD = "README.md"  # the name by which Git servers and Hugging Face show one
ALIKE = ("cores", "processor", "torch")  # of two machines whose stages take about as long, as far as a record tells
PACKAGES = ("torch", "transformers", "faiss-cpu", "faiss-gpu", "numpy", "dvc")


@dataclass(frozen=True)
class StageRun:
    """One stage of one run."""

    stage: str
    source: Literal["computed", "from cache"]
    seconds: float


def there(root: Path, address: str) -> Path | None:
    """The record's folder, if there is one, whatever state it is in."""
    folder = root / FOLDER / "records" / address
    return folder if (folder / ABOUT).is_file() else None


def find(root: Path, address: str) -> Path | None:
    """The same of one that can be read: a damaged one counts as absent, which is said."""
    folder = there(root, address)
    if folder is None:
        return None
    paths = [path for name in (*NAMES, ABOUT) if (path := folder / name).is_file()]
    problem = damage({path.name: _ends(path) if path.suffix == ".parquet" else path.read_bytes() for path in paths})
    if problem:
        say(f"mind: the record {address} {problem}: it counts as absent, `molar experiment run` makes it anew")
    return None if problem else folder


def damage(files: Mapping[str, bytes]) -> str | None:
    """What is wrong with a record of those files, as far as can be told without a parser of YAML, which takes seconds.

    Of the parquet file, megabytes, the first and the last bytes are enough.
    """
    for name in (*NAMES, ABOUT):
        if name not in files:
            return f"has no {name}"
    try:
        about, _ = json.loads(files[ABOUT]), json.loads(files["metrics.json"])
        whole = isinstance(about["commit"], str) and isinstance(about["stages"], list)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        return "holds a file that cannot be read"
    locked = LOCKED_METRICS.search(files["dvc.lock"])
    if locked and hashlib.md5(files["metrics.json"], usedforsecurity=False).hexdigest().encode() != locked[1]:
        return "has another metrics.json than its dvc.lock says"
    ranks = files["per_user.parquet"]
    if not (ranks.startswith(PARQUET) and ranks.endswith(PARQUET)):
        return "has a per_user.parquet that is cut short"
    return None


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(len(PARQUET))
        file.seek(max(file.seek(0, os.SEEK_END) - len(PARQUET), len(head)))
        return head + file.read()


def keep(root: Path, address: str, clone: Path, commit: str, data: str, stages: Iterable[StageRun]) -> Path:
    """Make the record of what lies in `clone`, computed of the raw `data`. Raises MolarError: the run lacks a file."""
    for name in KEPT:
        if not (clone / name).is_file():
            raise MolarError(f"the pipeline has made no {name}, which a record keeps: see {clone}")
    about = {"commit": commit, "data": data, "stages": [asdict(stage) for stage in stages], "machine": machine()}
    made = [name for name in (*KEPT, *KEPT_IF_MADE) if (clone / name).is_file()]
    files = {Path(name).name: (clone / name).read_bytes() for name in made}
    return put(root, address, files | {ABOUT: (json.dumps(about, indent=2, sort_keys=True) + "\n").encode()})


def put(root: Path, address: str, files: Mapping[str, bytes]) -> Path:
    """A record of those files."""
    folder = root / FOLDER / "records" / address
    partial = folder.with_name(f".{address}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def add(root: Path, address: str, name: str, content: bytes) -> None:
    """One more file, or another one in its place, of a record that is there."""
    folder = root / FOLDER / "records" / address
    partial = folder.with_name(f".{address}.{name}.partial")
    partial.write_bytes(content)
    partial.rename(folder / name)


def durations(root: Path, data: str) -> dict[str, float]:
    """Median seconds of each stage over the records of the raw `data` in which a machine like this one computed it."""
    seconds: dict[str, list[float]] = defaultdict(list)
    ours = machine()
    for path in (root / FOLDER / "records").glob(f"*/{ABOUT}"):
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # damaged, which `find` says where it matters
            about = json.loads(path.read_text("utf-8"))
            alike = all(about["machine"].get(key) == ours.get(key) for key in ALIKE)
            for stage in about["stages"] if alike and about["data"] == data else []:
                if stage["source"] == "computed":
                    seconds[stage["stage"]].append(stage["seconds"])
    return {stage: statistics.median(values) for stage, values in seconds.items()}


def machine() -> dict[str, str]:
    """Its class and what is installed, by metadata alone: nothing heavy is imported, and torch's names its build."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cores": str(cores), "processor": platform.machine(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
