"""A publisher on 127.0.0.1 whose mishaps are scripted: what the download tests share. No other host can be met."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.catalog import web

SILENCE = 0.3  # seconds that a test of silence waits; the others wait long enough for a busy machine


@dataclass
class Publisher:
    """`files` by path; `mishaps` are what happens to the next requests for a path, in that order.

    A mishap is a status (500), or (a word, a number of bytes): `cut` the connection after them, `reset` it,
    `stall`; or ("redirect", url), ("part", a wrong first byte). With none left the file is served.
    """

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)  # path -> Content-Type
    mishaps: dict[str, list[Any]] = field(default_factory=dict)
    ranges: bool = True
    careless: bool = False  # sends the part asked for, whatever If-Range says
    etag: str | None = "by content"  # None: none is sent; `W/` before it: a weak one
    last_modified: str | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # every request: path, headers
    times: list[float] = field(default_factory=list)
    together: threading.Barrier | None = None  # requests wait until so many are there
    at_once: int = 0
    most_at_once: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def tag_of(self, path: str) -> str | None:
        if self.etag is None:
            return None
        weak = "W/" if self.etag.startswith("W/") else ""
        return f'{weak}"{hashlib.sha256(self.files[path]).hexdigest()[:12]}"'

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


@contextmanager
def publishing() -> Iterator[Publisher]:
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            with lock:
                publisher.asked.append((self.path, dict(self.headers)))
                publisher.times.append(time.monotonic())
                publisher.at_once += 1
                publisher.most_at_once = max(publisher.most_at_once, publisher.at_once)
                mishaps = publisher.mishaps.get(self.path, [])
                mishap = mishaps.pop(0) if mishaps else None
            try:
                if publisher.together:
                    publisher.together.wait(60)
                # a client that gave up waiting is no failure of ours
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.answer(mishap)
            finally:
                with lock:
                    publisher.at_once -= 1

        def answer(self, mishap: Any) -> None:
            if isinstance(mishap, int):
                self.send_error(mishap)
                return
            if mishap and mishap[0] == "redirect":
                self.send_response(302)
                self.send_header("Location", mishap[1])
                self.end_headers()
                return
            if self.path not in publisher.files:
                self.send_error(404)
                return
            content, tag = publisher.files[self.path], publisher.tag_of(self.path)
            start, end = 0, len(content)
            wanted = self.headers.get("Range") if publisher.ranges else None
            same = publisher.careless or self.headers.get("If-Range") in (tag, publisher.last_modified)
            if wanted and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= end:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{end}")
                    self.end_headers()
                    return
                if mishap and mishap[0] == "part":
                    start = mishap[1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            else:
                self.send_response(200)
            if tag:
                self.send_header("ETag", tag)
            if publisher.last_modified:
                self.send_header("Last-Modified", publisher.last_modified)
            if kind := publisher.kinds.get(self.path):
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if mishap and mishap[0] in ("cut", "reset", "stall"):
                self.wfile.write(content[start : start + mishap[1]])
                if mishap[0] == "stall":
                    time.sleep(3 * SILENCE)
                elif mishap[0] == "reset":  # no lingering: the client's next read fails
                    time.sleep(0.05)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                return
            self.wfile.write(content[start:])

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    publisher = Publisher(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other host's name is not found, as without a network; waits are short; no proxy stands between."""
    real = socket.getaddrinfo

    def lookup(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(web, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 10.0)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # one date: one MD5 in all processes
    return buffer.getvalue()
