"""How the doctor looks: a failed look is a word, never a crash; sizes and times in as few letters as are honest."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import MolarError

# What looking at a stranger's installation may raise: a library that is absent, half-installed or from another age,
# a file that is unreadable, a driver that does not answer.
FAILURES = (
    MolarError,
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
REASON_LENGTH = 90


def reason(error: BaseException) -> str:
    """The first line of what went wrong, or the error's name where it says nothing."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= REASON_LENGTH else f"{line[: REASON_LENGTH - 3]}..."


def attempt(look: Callable[[], str]) -> str:
    """What `look` says, or "unknown (why)"."""
    try:
        return look()
    except FAILURES as error:
        return f"unknown ({reason(error)})"


def size(count: float) -> str:
    """Bytes for people: "980 B", "3.4 MB", "2.2 GB" (powers of 1,000, as disks are sold)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.0f} TB" if count >= 9.95 else f"{count:.1f} TB"


def number(count: float) -> str:
    """A count of parameters or operations: "442 k", "2.2 B"."""
    for unit in ("", " k", " M"):
        if count < 999.5:
            return f"{count:.0f}{unit}" if count >= 9.95 or not unit else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:,.1f} B"


def duration(seconds: float) -> str:
    """ "9 s", "4 min", "2.5 h", "12 days": an estimate has no more digits than that."""
    if seconds < 99.5:
        return f"{max(seconds, 1):.0f} s"
    for unit, length, until in (("min", 60, 90), ("h", 3600, 48), ("days", 86400, 1e9)):
        value = seconds / length
        if value < until:
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
    return "centuries"
