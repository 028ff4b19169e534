"""Run a command so that nothing of it outlives whoever asked for it, however that one ends.

    python guard.py COMMAND...      ends COMMAND and all that it started once standard input is closed

Ending only `dvc` leaves the trainer that it started running (measured), and a killed process ends nothing at all. So
the command runs in a session of its own under this guard, which holds one end of a pipe: the other one closes when its
owner ends, by whatever signal. Then everything below is interrupted, as by Ctrl-C, and what is still there after
GRACE_SECONDS is killed, processes that went into sessions of their own included (on Linux).

Standard library only: it runs as a file, so that it is the checkout's own and not that of the commit being measured.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE_SECONDS = 5.0
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>: orphans below become children of this process


@contextmanager
def guarded(
    command: list[str], cwd: Path, environment: Mapping[str, str], lock: int
) -> Iterator[subprocess.Popen[str]]:
    """The command, its standard output and error together as text lines; when the block ends, so has all of it.

    The guard shares the file descriptor `lock`: a lock on it lasts until everything below has ended.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, *command],
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),
        start_new_session=True,  # out of reach of the terminal's Ctrl-C, which the guard passes on
    )
    try:
        yield process
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait()


def main(command: list[str]) -> int:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, lambda *_: None)  # the interruption that it sends to its own group is for the others
    signal.signal(signal.SIGTERM, lambda *_: _end_all())
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_watch, daemon=True).start()
    status = child.wait()
    _kill(_below())  # what the command left behind
    return status if status >= 0 else 128 - status


def _watch() -> None:
    """Wait for the end of the pipe."""
    while os.read(0, 1024):
        pass
    _end_all()


def _end_all() -> None:
    os.killpg(0, signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and _below():
        time.sleep(0.05)
    while found := _below():
        _kill(found)
        time.sleep(0.05)
    os._exit(130)


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _below() -> list[int]:
    """Living processes that descend from this one, by /proc; where there is none, nobody is known."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]  # after the name, which may hold anything
            if state != "Z":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found, pending = [], [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
