"""The headers of an uncompressed tar archive, one after another, without reading what lies between them.

The standard library's tarfile takes a damaged header for the end of the archive (half the pictures would be "not
found"), reads whatever length a header claims, and before 3.11.14 runs in circles over a negative one. This walk only
goes forward, reads at most LONGEST_NAME bytes at a time and never past the end. ustar, GNU and pax names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.errors import MolarError

BLOCK = 512
LONGEST_NAME = 1 << 16  # bytes of a GNU or pax extension
FILES = (b"0", b"\0", b"7")
SPARSE = b"S"
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: their size counts for nothing


class Header(NamedTuple):
    name: str
    plain: bool  # a file whose bytes stand there as they are; else a link, a device, a folder, a sparse file
    start: int
    size: int


class _DamagedError(Exception):
    """Where the walk cannot go on; the message says why."""


def headers(path: Path) -> Iterator[Header]:
    """Every member of the archive. Raises MolarError where it is damaged or breaks off."""
    with path.open("rb") as file:
        try:
            yield from _walk(file, path.stat().st_size)
        except (_DamagedError, ValueError) as reason:
            raise MolarError(f"{path} is damaged or no tar archive ({reason}): make or copy it again") from None


def _walk(file: BinaryIO, end: int) -> Iterator[Header]:
    at, long_name, extended = 0, None, dict[str, str]()
    if not end:
        raise _DamagedError("it is empty")
    while at < end:
        file.seek(at)
        block = file.read(BLOCK)
        if not block.strip(b"\0"):
            return  # a block of zeros ends an archive
        if len(block) < BLOCK or not _is_header(block):
            raise _DamagedError(f"no header at byte {at:,}")
        kind, size, start = block[156:157], _number(block[124:136]), at + BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            if size > LONGEST_NAME:
                raise _DamagedError(f"a name of {size:,} bytes at byte {at:,}")
            said = file.read(size)
            if kind == b"L":
                long_name = said.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            elif kind == b"x":
                extended = _extended(said)
            after = start + size
        else:
            size = 0 if kind in WITHOUT_DATA else int(extended.get("size", size))
            sparse = kind == SPARSE or any(key.startswith("GNU.sparse.") for key in extended)
            more = kind == SPARSE and block[482]
            while more:  # a map of its holes, before the data
                file.seek(start)
                more, start = (file.read(BLOCK) or bytes(BLOCK))[504:505] not in (b"", b"\0"), start + BLOCK
            name = extended.get("path") or long_name or _name(block)
            after = start + size
            if size < 0 or after > end:
                raise _DamagedError(f"it breaks off in {name[:80]!r}")
            yield Header(name, kind in FILES and not sparse and not name.endswith("/"), start, size)
            long_name, extended = None, {}
        at = after + -after % BLOCK


def _is_header(block: bytes) -> bool:
    """Whether the sum of its bytes, the field of the sum as spaces, is the one written."""
    total = sum(block) - sum(block[148:156]) + 8 * 32
    return total == _number(block[148:156])


def _number(field: bytes) -> int:
    """Octal text, or binary after a byte of 0x80. Raises ValueError or _DamagedError."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] > 0x80:
        raise _DamagedError("a negative number")
    return int(field.replace(b"\0", b" ").strip() or b"0", 8)


def _name(block: bytes) -> str:
    name, prefix = (part.partition(b"\0")[0] for part in (block[:100], block[345:500]))
    if prefix and block[257:263] == b"ustar\0":  # GNU keeps times there
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _extended(said: bytes) -> dict[str, str]:
    """pax records: `length key=value\\n`, the length counting itself."""
    found = {}
    while said:
        digits, space, _ = said.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 6 or not len(digits) < int(digits) <= len(said):
            raise _DamagedError("a pax header is malformed")
        key, _, value = said[len(digits) + 1 : int(digits) - 1].partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        said = said[int(digits) :]
    return found
