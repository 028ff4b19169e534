"""`images.zip` or `images.tar` beside the tables, in place of the folder `images/`: read where it lies, never unpacked.

Its members are listed once, a zip's by its directory and a tar's by a walk over its headers; a picture is then fetched
from its place by whoever encodes it. Nothing in an archive is trusted: a member that is absolute or leaves the folder
is never found, links and devices are never followed, and sizes are bounded before a byte is read.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.catalog.images import MAX_BYTES, NOT_FOUND, TOO_LARGE, UnusableImageError, refuse_url
from pipeline.catalog.places import Member
from pipeline.catalog.tar_headers import headers
from pipeline.errors import MolarError

SUFFIXES = (".zip", ".tar")
COMPRESSED = {  # as a whole: suffixes, first bytes, and the tool that undoes it
    (".tar.gz", ".tgz"): (b"\x1f\x8b", "gzip"),
    (".tar.bz2", ".tbz2", ".tbz"): (b"BZh", "bzip2"),
    (".tar.xz", ".txz"): (b"\xfd7zXZ", "xz"),
    (".tar.zst", ".tzst"): (b"\x28\xb5\x2f\xfd", "zstd"),
}
# what zipfile raises over damaged bytes
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, OverflowError, RuntimeError)
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip member

Listed = tuple[str, Member | str]  # name as it stands there; where it lies, or why it cannot be used


class Archive:
    """The pictures of one archive."""

    def __init__(self, path: Path) -> None:
        """Raises MolarError if the file is damaged, or compressed as a whole."""
        self.path = path
        self._members: dict[str, Member | str] = {}
        for name, member in _of_zip(path) if path.suffix == ".zip" else _of_tar(path):
            key = _key(name)
            if key is not None:
                twice = key in self._members
                self._members[key] = "archive holds two members of this name" if twice else member

    def names(self) -> list[str]:
        """What `find` would find, or say why not."""
        return list(self._members)

    def find(self, name: str) -> Member | str:
        """The member that an item table names, or why there is none to be had."""
        try:
            refuse_url(name)
        except UnusableImageError as reason:
            return str(reason)
        key = _key(name)
        return "picture lies outside the archive" if key is None else self._members.get(key, NOT_FOUND)


def beside(root: Path, folders: Sequence[str] = ("images",)) -> Archive | None:
    """The archive that stands in for the `folders` of a raw folder; None if there is none.

    Raises MolarError where it is not clear which to read, and for a tar that is compressed as a whole.
    """
    unpacked = [f"{folder}/" for folder in folders if (root / folder).is_dir()]
    there = [path for folder in folders for suffix in SUFFIXES if (path := root / f"{folder}{suffix}").is_file()]
    if there and len(there) + len(unpacked) > 1:
        words = " and ".join([*unpacked, *(path.name for path in there)])
        raise MolarError(f"{root} holds both {words}: keep the one whose pictures you mean")
    if there:
        return Archive(there[0])
    for suffixes, (_, tool) in COMPRESSED.items():
        for path in (root / f"{folder}{suffix}" for folder in folders for suffix in suffixes):
            if not unpacked and path.is_file():
                raise _compressed(path, tool)
    return None


def _compressed(path: Path, tool: str) -> MolarError:
    return MolarError(
        f"{path} is compressed as a whole, so no picture in it can be read by itself: "
        f"make it a plain tar ({tool} -d) or unpack it"
    )


def _key(name: str) -> str | None:
    """A name as it is inside images/; None if it is absolute or leaves the folder."""
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return None
    return "/".join(parts[1:] if parts[:1] == ["images"] and len(parts) > 1 else parts)


def _of_tar(path: Path) -> Iterator[Listed]:
    with path.open("rb") as file:
        first = file.read(8)
    for magic, tool in COMPRESSED.values():
        if first.startswith(magic):
            raise _compressed(path, tool)
    for header in headers(path):
        if not header.plain:
            yield header.name, "picture is no plain file in the archive"
        elif header.size > MAX_BYTES:
            yield header.name, TOO_LARGE
        else:
            yield header.name, Member(path, header.name, header.start, header.size, header.size)


def _of_zip(path: Path) -> Iterator[Listed]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.filename:  # it cannot even be opened
            raise
        reason = str(error).splitlines()[0][:120] if str(error) else "it ends too early"
        raise MolarError(f"{path} is damaged or no zip archive ({reason}): make or copy it again") from None
    for member in members:
        if member.filename and not member.is_dir():  # a name cut to nothing by a flipped byte names no picture
            name = _name(member)
            yield name, _refused(member) or _place(path, name, member)


def _name(member: zipfile.ZipInfo) -> str:
    """Some tools write UTF-8 and do not say so."""
    if member.flag_bits & UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _refused(member: zipfile.ZipInfo) -> str | None:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "picture is no plain file in the archive"
    if member.flag_bits & ENCRYPTED:
        return "picture is encrypted in the archive"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "picture is compressed in the archive in a way that is not read (deflate is)"
    if max(member.file_size, member.compress_size) > MAX_BYTES:
        return TOO_LARGE
    return None


def _place(path: Path, name: str, member: zipfile.ZipInfo) -> Member:
    deflated = member.compress_type == zipfile.ZIP_DEFLATED
    return Member(path, name, member.header_offset, member.compress_size, member.file_size, member.CRC, deflated)
