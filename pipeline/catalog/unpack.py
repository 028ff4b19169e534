"""A zip archive -> a folder, whole or absent; nothing in the archive is trusted.

Every member is checked before the first byte is written: its name stays inside (no `..`, no absolute path, no drive
letter), it is a plain file or a folder (no links, no devices), and what it claims to hold is bounded, by itself and
in all. While it is written, no more bytes are taken than it claimed, and its CRC is compared.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import zipfile
from pathlib import Path

from pipeline.catalog.archive import DAMAGED
from pipeline.catalog.transfer import check_room, size, writing
from pipeline.errors import MolarError
from pipeline.progress import bar

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 4 * 10**9  # the largest one published is ml-32m's ratings.csv, 0.9 GB
MAX_TOTAL_BYTES = 8 * 10**9
CHUNK = 1 << 20


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` to the new folder `target`; a top folder of the same name is not repeated inside it.

    Raises MolarError, and leaves no `target`: not a zip archive, damaged, a member that may not be written, no room.
    """
    work = target.with_name(f".{target.name}.partial")
    with writing(target):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _unpack(archive, work)
            inside = work / target.name
            (inside if inside.is_dir() else work).rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(archive, members)
            total = sum(member.file_size for member in members)
            check_room(folder, total)
            with bar(f"unpack {archive.name}", total=total // 1000, unit="kB") as progress:
                written = 0
                for member in members:
                    path = folder / member.filename
                    if member.is_dir():
                        path.mkdir(parents=True, exist_ok=True)
                        continue
                    path.parent.mkdir(parents=True, exist_ok=True)
                    # read() ends at the claimed size: a member that inflates to more fails its CRC there
                    with opened.open(member) as source, path.open("xb") as sink:
                        while chunk := source.read(CHUNK):
                            sink.write(chunk)
                            written += len(chunk)
                            progress.advance(written // 1000 - progress.done)
    except DAMAGED as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a position that no file has: the archive's, not the disk's
            raise
        raise _damaged(archive, error) from None


def _damaged(archive: Path, error: Exception) -> MolarError:
    reason = str(error).splitlines()[0][:120] if str(error) else "it ends too early"
    return MolarError(f"{archive} is no zip archive or damaged ({reason}): remove it and download it again")


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise MolarError for the first member that may not be written, or for too much of everything."""
    for member in members:
        reason = _unsafe(member)
        if reason:
            raise MolarError(f"{archive} is not unpacked: its member {member.filename[:80]!r} {reason}")
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise MolarError(f"{archive} is not unpacked: it holds two members of one name")
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or total > MAX_TOTAL_BYTES:
        raise MolarError(
            f"{archive} is not unpacked: {len(members):,} members of {size(total)} in all are more than the "
            f"{MAX_MEMBERS:,} and {size(MAX_TOTAL_BYTES)} that any known data set needs"
        )


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Why a member may not be written; None if it may."""
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    if not name or name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "would be written outside the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that the published archives never use"
    if member.file_size > MAX_MEMBER_BYTES:
        return f"claims {size(member.file_size)}, above the bound of {size(MAX_MEMBER_BYTES)}"
    return None
