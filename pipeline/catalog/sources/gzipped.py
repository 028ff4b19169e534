"""Files that may be gzipped, read as streams: their first bytes tell, since browsers unpack and keep the name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from pipeline.errors import MolarError

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)  # what gzip raises


def is_gzipped(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def opened(path: Path) -> BinaryIO:
    """The content, unpacked on the way if need be. Read it inside `intact`."""
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb")


def arrow_stream(path: Path) -> pa.NativeFile:
    """The same for Arrow's readers."""
    return pa.input_stream(str(path), compression="gzip" if is_gzipped(path) else None)


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Raises MolarError where a gzipped file that is read inside the block breaks off or is damaged."""
    try:
        yield
    except DAMAGE:
        raise broken(path) from None
    except OSError as error:
        if error.errno is not None or not is_gzipped(path):
            raise
        raise broken(path) from None  # Arrow's: without a number, for no system call failed


def broken(path: Path, where: str = "") -> MolarError:
    """What to say of it."""
    return MolarError(f"{path} breaks off or is damaged{where}: download it again")
