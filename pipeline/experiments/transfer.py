"""`dvc push` and `dvc fetch` of contents by their digest, however many dvc.lock files name them, in one process.

    python -m pipeline.experiments.transfer push|fetch FOLDER [REMOTE]     digests in FOLDER/digests.json

A repository of DVC is made in the empty FOLDER, with the cache and the remotes of the project in the working directory
and one .dvc file that names the contents as its outs; what moves them is DVC. Its lock is its own, so that a table may
be running meanwhile. One line of JSON is printed, last:

    {"cache": ..., "remote": ..., "moved": 12, "files": 16, "bytes": 52413, "absent": [digests that are not whole here]}
    {"error": ...}
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pipeline.errors import MolarError
from pipeline.experiments.cache import Cache

Kind = Literal["push", "fetch"]
LISTED = "digests.json"


@dataclass(frozen=True)
class Moved:
    """What DVC has moved."""

    cache: Cache
    remote: str
    moved: int  # files that were sent or came
    files: int  # that lie at either end now, those included
    bytes: int  # of them
    absent: list[str]  # contents that are not, or not wholly, in the cache here


def transfer(kind: Kind, root: Path, folder: Path, digests: Sequence[str], remote: str | None) -> Moved:
    """Have it done, in an empty `folder`. Raises MolarError: DVC's reason."""
    (folder / LISTED).write_text(json.dumps(list(digests)), "utf-8")
    command = [sys.executable, "-m", "pipeline.experiments.transfer", kind, str(folder), *([remote] if remote else [])]
    done = subprocess.run(command, cwd=root, check=False, text=True, stdout=subprocess.PIPE)  # bars are shown
    lines = done.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise MolarError(f"dvc {kind} has ended early, status {done.returncode}: run this command again")
    told = json.loads(lines[-1])
    if "error" in told:
        raise MolarError(told["error"])
    return Moved(cache=Cache(Path(told.pop("cache"))), **told)


def main(kind: str, folder: Path, name: str | None) -> None:
    from dvc.repo import Repo

    heard = Heard()
    for library in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(library).handlers[:] = [heard]  # what DVC would print is told in our line
        logging.getLogger(library).propagate = False

    def told(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        where = f"DVC remote {name!r}{f' ({url})' if url else ''}: " if name else "DVC: "
        print(json.dumps({"error": where + _words(heard.reason or error)}))

    url = None
    sys.excepthook = told
    checkout = Repo()
    name = name or checkout.config["core"].get("remote")
    known = checkout.config["remote"]
    if name not in known:
        there = f"there are: {', '.join(known)}" if known else "there is none"
        what = f"no DVC remote {name!r}" if name else "no default DVC remote"
        print(json.dumps({"error": f"{what} ({there}): `dvc remote add --default NAME URL`, or name one by --remote"}))
        return
    url = known[name].get("url")
    cache = Cache(Path(checkout.cache.local_cache_dir))
    digests = json.loads((folder / LISTED).read_text("utf-8"))
    listed = [digest for digest in digests if kind == "fetch" or cache.whole(digest)]
    outs = [{"md5": digest, "hash": "md5", "path": digest.replace(".", "_")} for digest in listed]
    (folder / "contents.dvc").write_text(json.dumps({"outs": outs}), "utf-8")  # JSON is YAML
    Repo.init(str(folder), no_scm=True).close()
    settings = {"cache": {"dir": str(cache.folder)}, "core": {"remote": name}, "remote": {name: dict(known[name])}}
    moved, before = 0, _files(cache, listed)
    if listed:
        with Repo(str(folder), config=settings) as repo:
            try:
                moved = (repo.push if kind == "push" else repo.fetch)([str(folder / "contents.dvc")], remote=name)
            except _failures() as error:
                if kind == "push" or heard.reason or not getattr(error, "amount", 0):
                    raise  # else some contents are not on the remote: those are `absent`
    absent = [digest for digest in digests if not cache.whole(digest)]
    files = _files(cache, listed)
    if kind == "fetch":
        moved = len(files - before)  # which DVC does not say if some contents are not there
    size = sum(path.stat().st_size for path in files)
    about = {"cache": str(cache.folder), "remote": name, "moved": moved, "files": len(files), "bytes": size}
    print(json.dumps(about | {"absent": absent}))


def _files(cache: Cache, digests: Sequence[str]) -> set[Path]:
    return {path for digest in digests for path in cache.files(digest) if path.is_file()}


def _failures() -> tuple[type[Exception], ...]:
    from dvc.exceptions import CheckoutError, DownloadError, FileTransferError

    return (FileTransferError, DownloadError, CheckoutError)


class Heard(logging.Handler):
    """Remembers the first reason that DVC logs, which its exceptions only count."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reason: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.reason is None and record.exc_info and not isinstance(record.exc_info[1], FileNotFoundError):
            self.reason = record.exc_info[1]


def _words(error: Any) -> str:
    """A reason in one line, with those behind it that say more."""
    found: list[str] = []
    while error is not None and len(found) < 2:
        line = " ".join(str(error).split()) or type(error).__name__
        if not any(line in other for other in found):
            found.append(line)
        error = error.__cause__ or error.__context__
    return ": ".join(found)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
