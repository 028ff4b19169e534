"""Where a picture's bytes lie, and the part of packing that any process can do: fetch them and encode them.

A job names places and carries no bytes, so that reading is as parallel as decoding. Like images.py this module is
imported by processes that do nothing else: keep it light.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.catalog.images import (
    MAX_BYTES,
    NOT_FOUND,
    TOO_LARGE,
    UNREADABLE,
    Small,
    UnusableImageError,
    encode,
    locate,
)

LOCAL_HEADER = 30  # bytes before the name of a zip member, which stands once more in front of its data
DAMAGED = "picture is damaged in the archive"


class File(NamedTuple):
    """A file of its own, as an item table names it."""

    root: Path
    name: str


class Member(NamedTuple):
    """A stretch of a larger file: of an archive, or of pictures written one after another."""

    path: Path
    name: str  # for messages
    start: int  # of the bytes; of the local header where there is one
    length: int  # as stored
    size: int  # unpacked
    crc: int | None = None  # of what is unpacked; None: no zip member
    deflated: bool = False


Place = File | Member
Found = Place | str | None  # a text: why the item's picture cannot be had; None: it has none
Encoded = Small | str | None  # likewise


class Bounds(NamedTuple):
    """What `images.encode` asks for."""

    image_size: int
    max_image_pixels: int


def encoded(found: Sequence[Found], bounds: Bounds) -> list[Encoded]:
    """The encoded picture of each place; what is no place stays what it is."""
    return [_encoded(place, bounds) if isinstance(place, tuple) else place for place in found]


def _encoded(place: Place, bounds: Bounds) -> Small | str:
    try:
        source = locate(place.root, place.name) if isinstance(place, File) else content(place)
        return encode(source, *bounds)
    except UnusableImageError as reason:
        return str(reason)


def content(member: Member) -> bytes:
    """What a member holds. Raises UnusableImageError if it is damaged or not what its archive claims."""
    if member.size > MAX_BYTES or member.length > MAX_BYTES:
        raise UnusableImageError(TOO_LARGE)
    try:
        with member.path.open("rb") as archive:
            archive.seek(member.start if member.crc is None else _after_local_header(archive, member.start))
            stored = archive.read(member.length)
    except FileNotFoundError:
        raise UnusableImageError(NOT_FOUND) from None
    except OSError:
        raise UnusableImageError(UNREADABLE) from None
    if len(stored) < member.length:
        raise UnusableImageError(DAMAGED)
    unpacked = _inflated(stored, member.size) if member.deflated else stored
    if len(unpacked) != member.size or (member.crc is not None and zlib.crc32(unpacked) != member.crc):
        raise UnusableImageError(DAMAGED)
    return unpacked


def _after_local_header(archive: BinaryIO, start: int) -> int:
    """Where the data of a zip member begins."""
    archive.seek(start)
    header = archive.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER or not header.startswith(b"PK\3\4"):
        raise UnusableImageError(DAMAGED)
    return start + LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _inflated(stored: bytes, size: int) -> bytes:
    """Never more than one byte beyond the claimed `size`: a bomb is cut there."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = inflater.decompress(stored, size + 1)
    except zlib.error:
        raise UnusableImageError(DAMAGED) from None
    if len(unpacked) > size:
        raise UnusableImageError("picture is larger in the archive than it claims")
    return unpacked
