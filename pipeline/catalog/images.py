"""Pictures: decoded once, bounded before decoding, re-encoded small. What cannot be used says why.

Sizes are read from the file's header, so that a picture of a billion pixels costs nothing. A PNG stays a PNG
(drawings keep their edges), all else becomes JPEG; transparent pixels become white, EXIF turns are applied.
The bytes depend on the source file and the params alone (and on the Pillow that encodes them). Processes that do
nothing but encode import this module: keep it at Pillow and the standard library.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image, ImageOps, UnidentifiedImageError

JPEG_QUALITY = 90
DOWNLOADED = (".jpg", ".png", ".gif", ".webp")  # suffixes of what `molar download images` writes
LONGEST_STEM = 200  # bytes; file systems take 255
LONGEST_TO_SHORTEST = 100  # Qwen2-VL's processor refuses 200, hours into a run
MAX_BYTES = 100_000_000  # of one picture as it is stored; fifty million pixels as PNG fit
TOO_LARGE = f"picture file is above {MAX_BYTES // 1_000_000} MB"
NOT_FOUND = "picture file not found"
UNREADABLE = "picture file cannot be read"
# Pillow knows dozens more, some of which start other programs (EPS) or are no picture anyone sells by
FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}


class Small(NamedTuple):
    """A picture as the catalogue keeps it."""

    content: bytes  # JPEG or PNG
    source_side: int  # longest side before it was bounded, pixels


class UnusableImageError(Exception):
    """A picture that goes to quarantine; the message is the reason."""


def locate(root: Path, name: str) -> Path:
    """The file that an item table names: inside `root/images`, else relative to `root`. Never outside `root`."""
    refuse_url(name)
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise UnusableImageError("picture path is absolute, it should be relative to the raw folder")
    try:
        for path in (root / "images" / name, root / name):
            if path.is_file():
                if not path.resolve().is_relative_to(root.resolve()):
                    raise UnusableImageError("picture lies outside the raw folder")
                return path
    except OSError:  # a name too long for any file, a folder that may not be entered
        pass
    raise UnusableImageError(NOT_FOUND)


def refuse_url(name: str) -> None:
    """Raise UnusableImageError for a picture that is named by address."""
    if is_url(name):
        raise UnusableImageError("picture was not downloaded, run `molar download images`")


def is_url(name: str) -> bool:
    """Whether an item table names its picture by address, not by file."""
    return name.startswith(("http://", "https://"))


def file_stem(item_id: str) -> str:
    """The name, without suffix, of the downloaded picture of an item: the id itself wherever it is harmless.

    Ids are data: what could leave the folder, hide or be read in two ways is escaped, what is too long for a file
    system is hashed. Different ids have different stems.
    """
    stem = re.sub(r"^\.", "%2E", quote(item_id, safe="", errors="surrogatepass"))
    return stem if len(stem) <= LONGEST_STEM else hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()


def downloaded(root: Path, item_id: str) -> str | None:
    """The name inside `root` of the picture that `molar download images` got for an item; None: there is none."""
    for suffix in DOWNLOADED:
        if (root / "images" / f"{file_stem(item_id)}{suffix}").is_file():
            return f"images/{file_stem(item_id)}{suffix}"
    return None


def encode(source: Path | bytes, image_size: int, max_image_pixels: int) -> Small:
    """The picture (a file, or what one holds) with its longest side at most `image_size`, as JPEG or PNG.

    Raises UnusableImageError.
    """
    stored = source if isinstance(source, bytes) else _read(source)
    if not stored:
        raise UnusableImageError("picture file is empty")
    with _own_bound():
        try:
            image = Image.open(io.BytesIO(stored))  # by path Pillow turns a TIFF twice
        except UnidentifiedImageError:
            raise UnusableImageError("not a picture") from None
        except (OSError, SyntaxError, ValueError, struct.error):  # a header that Pillow knows, broken further on
            raise UnusableImageError("picture is truncated or damaged") from None
        with image:
            if image.format not in FORMATS:
                raise UnusableImageError("picture is of a format that is not read")
            width, height = image.size
            if width * height > max_image_pixels:
                raise UnusableImageError("picture is above ingest.max_image_pixels")
            if max(width, height) > LONGEST_TO_SHORTEST * min(width, height):
                raise UnusableImageError(f"picture is more than {LONGEST_TO_SHORTEST} times as long as wide")
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, EOFError, struct.error):  # what Pillow's decoders raise
                raise UnusableImageError("picture is truncated or damaged") from None
            kind = image.format
            ImageOps.exif_transpose(image, in_place=True)  # a copy of a whole photo costs a tenth of its decoding
            small = _on_white(image)
            small.thumbnail((image_size, image_size), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            if kind == "PNG":
                small.save(buffer, "PNG")
            else:
                small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Small(buffer.getvalue(), max(width, height))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnusableImageError(TOO_LARGE)
        return path.read_bytes()
    except OSError:
        raise UnusableImageError(UNREADABLE) from None


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


@contextmanager
def _own_bound() -> Iterator[None]:
    """Lift Pillow's fixed limit on pixels, for ours is a param; the limit is a global, so put it back."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
