"""Files over HTTP(S): continued where they stopped, retried with patience, whole or absent.

`fetch` writes `<name>.partial`, beside it `<name>.partial.json` (url and validator), and renames when every byte is
there. It goes on by `Range` with `If-Range`, so that a server whose file has changed, or which knows no ranges, sends
the whole file and the partial one is started over. Timeouts, resets, 5xx and short reads are tried again after a wait
that doubles; an attempt that brought new bytes starts the count afresh.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

from pipeline.catalog import web
from pipeline.catalog.web import RefusedError, TemporaryError, chunks, opened, patiently
from pipeline.errors import MolarError
from pipeline.progress import bar


def fetch(url: str, target: Path) -> None:
    """Write what `url` gives to `target`, going on with an earlier call's partial file.

    Raises MolarError: the server refuses, cannot be reached or fails too often, the disk is full.
    """
    partial = target.with_name(f"{target.name}.partial")
    with writing(target):
        try:
            patiently(lambda: _go_on(url, partial), target.name, reached=lambda: _size(partial))
        except (RefusedError, TemporaryError) as error:
            raise MolarError(told(url, error)) from None
        partial.replace(target)
        _note_of(partial).unlink(missing_ok=True)


def read(url: str, limit: int) -> bytes:
    """The first `limit` bytes of what `url` gives. Raises RefusedError, or MolarError as `fetch` does."""

    def attempt() -> bytes:
        with opened(url) as response:
            content = b""
            for chunk in chunks(response):
                content += chunk
                if len(content) >= limit:
                    break
            return content[:limit]

    try:
        return patiently(attempt, url.rpartition("/")[2])
    except TemporaryError as error:
        raise MolarError(told(url, error)) from None


def told(url: str, error: RefusedError | TemporaryError) -> str:
    """The one line for whoever waits for `url`."""
    if isinstance(error, RefusedError):
        return f"{url} cannot be downloaded: {error}: look at it in a browser, the publisher may have moved it"
    if error.unreachable:
        return f"{url} cannot be reached ({error}): check the network or proxy, then run the same command again"
    return (
        f"{url} failed {web.ATTEMPTS} times in a row ({error}): run the same command again later, it goes on from there"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full, or may not be written, is told in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MolarError(f"the disk of {path} is full: make room, then run the same command again") from None
        raise MolarError(f"{path} cannot be written ({error.strerror or error}): correct that and run again") from None


def check_room(folder: Path, needed: int) -> None:
    """Raise MolarError if fewer than `needed` bytes are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MolarError(
            f"{folder} needs {size(needed)} more and its disk has {size(free)}: make room, then run the command again"
        )


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _go_on(url: str, partial: Path) -> None:
    """One attempt to complete `partial`."""
    validator = _validator(url, partial)
    start = _size(partial) if validator else 0
    try:
        response = opened(url, {"Range": f"bytes={start}-", "If-Range": validator} if validator and start else None)
    except RefusedError as error:
        if error.status != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        if _range(error.headers)[1] == start:
            return  # killed between the last byte and the rename
        raise _started_over(partial, "the partial file does not fit the server's") from None
    with response:
        now = _strong(response.headers)
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        elif _range(response.headers)[0] != start or (start and now not in (None, validator)):
            raise _started_over(partial, "the server sent another part than the one asked for")
        if response.length is not None:
            check_room(partial.parent, response.length)
        name = partial.name.removesuffix(".partial") + (f" from {size(start)} on" if start else "")
        # unbuffered: whatever kills us, the bytes that came are there next time
        with (
            partial.open("ab" if start else "wb", buffering=0) as handle,
            bar(name, None if response.length is None else response.length // 1000, "kB") as progress,
        ):
            # only now: beside bytes of an older file, the new validator would vouch for them
            _note_of(partial).write_text(json.dumps({"url": url, "validator": now or (validator if start else None)}))
            received = 0
            for chunk in chunks(response):
                view = memoryview(chunk)
                while view:
                    view = view[handle.write(view) :]
                received += len(chunk)
                progress.advance(received // 1000 - progress.done)


def _started_over(partial: Path, reason: str) -> TemporaryError:
    partial.unlink()
    return TemporaryError(f"{reason}, it is started over")


def _note_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _validator(url: str, partial: Path) -> str | None:
    """What proves that the server's file is still the one that `partial` is a part of; None: nothing does."""
    try:
        note = json.loads(_note_of(partial).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(note, dict) and note.get("url") == url and isinstance(note.get("validator"), str)
    return note["validator"] if fits else None


def _strong(headers: Message) -> str | None:
    """A validator that vouches for every byte: a strong ETag, else the time of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _range(headers: Message) -> tuple[int | None, int | None]:
    """(first byte, whole size) of a Content-Range: `bytes 5-9/10` is (5, 10), `bytes */10` is (None, 10)."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range") or "")
    if not match:
        return None, None
    return (int(match[1]) if match[1] else None), (int(match[2]) if match[2] != "*" else None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
