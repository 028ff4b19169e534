"""Pictures by url, for the data set that ingest reads: `<root>/images/<item id>.jpg` (or .png, .gif, .webp).

Only what is missing is fetched, a few pictures at a time and with a small delay between two requests to one host.
A picture is kept if its first bytes say that it is one, and appears under its name when it is whole. What could not be
had is in `<root>/images/failed.csv` (item,url,reason); the next call tries it again, after all that was never tried.
"""

from __future__ import annotations

import csv
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.catalog.images import DOWNLOADED, file_stem, is_url
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources import amazon, name_of, tables
from pipeline.catalog.transfer import writing
from pipeline.catalog.web import RefusedError, TemporaryError, chunks, opened, patiently
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest
from pipeline.progress import bar, say

ATTEMPTS = 3  # a picture
MAX_BYTES = 20_000_000  # a picture
MAX_SECONDS = 60.0  # a picture, once its server has answered
HOST_SECONDS = 0.02  # between two requests to one host
UNREACHABLE = 20  # pictures in a row whose server was not met: the network is gone
FAILED = "failed.csv"
POSTERS = ("movie_posters.csv", "image_source.csv")  # MovieLens: movie id,url; a header is no row
MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF87a": ".gif", b"GIF89a": ".gif"}

Urls = Iterator[tuple[str, str]]  # item id, url


@dataclass
class Report:
    """What became of the pictures."""

    there: int = 0  # before
    fetched: int = 0
    left: int = 0  # beyond the limit, and never tried
    failed: list[tuple[str, str, str]] = field(default_factory=list)  # item, url, reason; earlier calls' as well


def picture_urls(params: Ingest) -> Urls:
    """Item ids and the urls of their pictures, as the source knows them; an item may come twice, the first counts.

    Raises MolarError: the source knows no urls, or the files that hold them are missing.
    """
    root = Path(params.path)
    if not root.is_dir():
        raise MolarError(f"ingest.path = '{root}' is no folder: `molar download` a data set or correct the path")
    source = name_of(params)
    if source not in URLS:
        raise MolarError(f"source '{source}' names no picture urls (these do: {', '.join(URLS)})")
    return URLS[source](root, params)


def _of_movielens(root: Path, params: Ingest) -> Urls:
    files = [root / name for name in POSTERS if (root / name).is_file()]
    if not files:
        raise MolarError(f"{root} holds neither {' nor '.join(POSTERS)}: add one, a row `movie id,url` for each poster")
    for path in files:
        rows = strange = 0
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            try:
                for row in csv.reader(handle):
                    rows += 1
                    if len(row) == 2 and row[0].isdigit() and is_url(row[1]):
                        yield row[0], row[1]
                    else:
                        strange += 1
            except csv.Error as error:
                raise MolarError(f"{path} is no CSV after row {rows} ({error}): mend or remove it") from None
        if strange:
            say(f"{path}: {strange:,} of {rows:,} rows hold no movie id and http(s) url")


def _of_tables(root: Path, params: Ingest) -> Urls:
    if params.columns.image is None:
        raise MolarError("ingest.columns.image is null: name the column of the item table that holds picture urls")
    items, _, _ = tables.read_items(root, params.columns, Quarantine())  # ingest tells of rows that cannot be read
    return ((item.item_id, item.image) for item in items if item.image is not None and is_url(item.image))


# A source that knows picture urls has its line here.
URLS: dict[str, Callable[[Path, Ingest], Urls]] = {
    "movielens": _of_movielens,
    "tables": _of_tables,
    "amazon": lambda root, _: amazon.picture_urls(root),
}


def download_images(urls: Iterable[tuple[str, str]], root: Path, *, workers: int, limit: int | None) -> Report:
    """Fetch the pictures that are missing from `root/images`, `limit` of them at most (None: all).

    Raises MolarError: no network, no room on the disk. Whatever was fetched stays, and failed.csv is written.
    """
    folder = root / "images"
    report = Report()
    wanted: dict[str, str] = {}
    for item, url in urls:
        wanted.setdefault(item, url)
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(".*.partial"):
            leftover.unlink()
        stems = {path.stem for path in folder.iterdir() if path.suffix in DOWNLOADED}
        missing = [(item, url) for item, url in wanted.items() if file_stem(item) not in stems]
        report.there = len(wanted) - len(missing)
        ids = {item for item, _ in missing}
        failed = {row[0]: row for row in _earlier(folder / FAILED) if row[0] in ids}
        missing.sort(key=lambda job: job[0] in failed)  # stable: what was never tried comes first
        jobs = missing[:limit]
        report.left = sum(item not in failed for item, _ in missing[len(jobs) :])
        try:
            with bar("download images", total=len(jobs), unit="images") as progress:
                for item, url, reason in _all(jobs, folder, workers):
                    failed.pop(item, None)
                    if reason is None:
                        report.fetched += 1
                    else:
                        failed[item] = item, url, reason
                    progress.note(f"{len(failed)} failed")
                    progress.advance()
        finally:
            report.failed = list(failed.values())
            _write_failed(report.failed, folder / FAILED)
    return report


def show(report: Report, folder: Path) -> None:
    """Say what became of the pictures, and why some failed."""
    say(f"  {report.fetched:,} fetched, {report.there:,} were there already, {len(report.failed):,} failed")
    for reason, count in Counter(reason for _, _, reason in report.failed).most_common(5):
        say(f"    {count:,} x {reason}")
    if report.failed:
        say(f"  {folder / FAILED} names them; the same command tries them again")
    if report.left:
        say(f"  {report.left:,} more are missing, beyond --limit")


def _all(jobs: list[tuple[str, str]], folder: Path, workers: int) -> Iterator[tuple[str, str, str | None]]:
    """(item, url, why it failed or None) of each job as it ends. Raises MolarError when the network is gone."""
    manners = _Manners()
    in_a_row = 0
    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future[None], tuple[str, str]] = {}
        waiting = iter(jobs)
        try:
            while True:
                while len(running) < 2 * workers and (job := next(waiting, None)):
                    running[pool.submit(_one, *job, folder, manners)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    item, url = running.pop(future)
                    error = future.exception()
                    if error is not None and not isinstance(error, RefusedError | TemporaryError):
                        raise error
                    yield item, url, None if error is None else str(error)
                    in_a_row = in_a_row + 1 if isinstance(error, TemporaryError) and error.unreachable else 0
                    if in_a_row >= UNREACHABLE:
                        raise MolarError(
                            f"{in_a_row} pictures in a row could not be reached ({error}): check the network or "
                            f"proxy, then run the same command again"
                        )
        finally:
            pool.shutdown(cancel_futures=True)


def _one(item: str, url: str, folder: Path, manners: _Manners) -> None:
    """Fetch one picture. Raises RefusedError or TemporaryError with the reason."""

    def attempt() -> tuple[bytes, str]:
        manners.wait_for(url)
        return _picture(url)

    content, suffix = patiently(attempt, item, attempts=ATTEMPTS, tell=lambda line: None)
    name = f"{file_stem(item)}{suffix}"
    partial = folder / f".{name}.partial"
    partial.write_bytes(content)
    partial.replace(folder / name)


def _picture(url: str) -> tuple[bytes, str]:
    """The bytes of a picture and the suffix that its first bytes ask for."""
    started = time.monotonic()
    with opened(url) as response:
        kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "binary/octet-stream"):
            raise RefusedError(f"the server sent {kind[:40]}, no picture")
        content = bytearray()
        for chunk in chunks(response):
            content += chunk
            if max(len(content), response.length or 0) > MAX_BYTES:
                raise RefusedError(f"larger than {MAX_BYTES // 1_000_000} MB")
            if time.monotonic() - started > MAX_SECONDS:
                raise TemporaryError(f"not there after {MAX_SECONDS:g} s")
    return bytes(content), _suffix(content)


def _suffix(content: bytearray) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    for magic, suffix in MAGIC.items():
        if content.startswith(magic):
            return suffix
    raise RefusedError("not a JPEG, PNG, GIF or WebP picture" if content else "the picture is empty")


class _Manners:
    """No host gets two requests within HOST_SECONDS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[str, float] = {}  # host -> when the next request may start

    def wait_for(self, url: str) -> None:
        """Sleep until `url`'s host may be asked."""
        host = url.partition("://")[2].partition("/")[0]
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free.get(host, 0.0))
            self._free[host] = start + HOST_SECONDS
        time.sleep(start - now)


def _earlier(path: Path) -> list[tuple[str, str, str]]:
    """The rows of an earlier call's failed.csv; a file that is none holds nothing."""
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return [(row[0], row[1], row[2]) for row in csv.reader(handle) if len(row) == 3]
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return []


def _write_failed(failed: list[tuple[str, str, str]], path: Path) -> None:
    if not failed:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("item", "url", "reason"), *failed])
    partial.replace(path)
