"""Chromium without a window, driven over its DevTools protocol by a pipe: what a page asks for, says and measures.

No library and no port: messages are JSON with a zero byte after each, to file descriptor 3 and from 4.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# Both ends go to where Chromium looks for them, by way of numbers that are in nobody's way, and it takes our place.
MOVE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 60  # for one answer: both cores may be busy


@dataclass
class Seen:
    """Of one page at one width."""

    requests: list[str] = field(default_factory=list)  # but for the page itself and what it holds as data:
    messages: list[str] = field(default_factory=list)  # of the console, errors among them
    overflow: int = 0  # pixels by which the document is wider than the window


class Browser:
    """One Chromium with a profile of its own; `with` ends it."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        moved = [sys.executable, "-c", MOVE, str(theirs_in), str(theirs_out)]
        command = [*moved, CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)  # whereupon it ends
        os.close(self._in)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The answer; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        os.write(
            self._out, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        while (found := self._next()).get("id") != self._number:
            self.events.append(found)
        assert "error" not in found, (method, found)
        answer: dict[str, Any] = found["result"]
        return answer

    def visit(self, page: Path, width: int, height: int = 844) -> Seen:
        """Open a file in a window of that width and wait until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        seen = Seen(overflow=self.overflow(width))
        for event in self.events:
            about = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                seen.requests.append(about["request"]["url"])
            elif event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                seen.messages.append(json.dumps(about))
        seen.requests = [url for url in seen.requests if url != page.as_uri() and not url.startswith("data:")]
        return seen

    def overflow(self, width: int) -> int:
        """Of the page as it stands. A scroll bar takes its part of a window, and a page that names no width of a phone
        is laid out for a screen."""
        wide, free = (int(self.evaluate(f"document.documentElement.{of}Width")) for of in ("scroll", "client"))
        return wide - min(free, width)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium has not answered for {SECONDS} seconds"
            got = os.read(self._in, 1 << 20)
            assert got, "Chromium has ended"
            self._rest += got
        message, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found
