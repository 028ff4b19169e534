"""Pictures: decoded once, bounded before decoding, re-encoded small. What cannot be used says why.

Sizes are read from the file's header, so that a picture of a billion pixels costs nothing. A PNG stays a PNG
(drawings keep their edges), all else becomes JPEG; transparent pixels become white, EXIF turns are applied.
The bytes depend on the source file and the params alone (and on the Pillow that encodes them).
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageOps, UnidentifiedImageError

JPEG_QUALITY = 90
DOWNLOADED = (".jpg", ".png", ".gif", ".webp")  # suffixes of what `molar download images` writes
LONGEST_STEM = 200  # bytes; file systems take 255
LONGEST_TO_SHORTEST = 100  # Qwen2-VL's processor refuses 200, hours into a run


class UnusableImageError(Exception):
    """A picture that goes to quarantine; the message is the reason."""


def locate(root: Path, name: str) -> Path:
    """The file that an item table names: inside `root/images`, else relative to `root`. Never outside `root`."""
    if is_url(name):
        raise UnusableImageError("picture was not downloaded, run `molar download images`")
    for path in (root / "images" / name, root / name):
        if path.is_file():
            if not path.resolve().is_relative_to(root.resolve()):
                raise UnusableImageError("picture lies outside the raw folder")
            return path
    raise UnusableImageError("picture file not found")


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


def encode(path: Path, image_size: int, max_image_pixels: int) -> bytes:
    """The picture with its longest side at most `image_size`, as JPEG or PNG. Raises UnusableImageError."""
    if path.stat().st_size == 0:
        raise UnusableImageError("picture file is empty")
    with _own_bound():
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            raise UnusableImageError("not a picture") from None
        except (OSError, SyntaxError, ValueError, struct.error):  # a header that Pillow knows, broken further on
            raise UnusableImageError("picture is truncated or damaged") from None
        with image:
            width, height = image.size
            if width * height > max_image_pixels:
                raise UnusableImageError("picture is above ingest.max_image_pixels")
            if max(width, height) > LONGEST_TO_SHORTEST * min(width, height):
                raise UnusableImageError(f"picture is more than {LONGEST_TO_SHORTEST} times as long as wide")
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, EOFError, struct.error):  # what Pillow's decoders raise
                raise UnusableImageError("picture is truncated or damaged") from None
            small = _on_white(ImageOps.exif_transpose(image))
            small.thumbnail((image_size, image_size), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            if image.format == "PNG":
                small.save(buffer, "PNG")
            else:
                small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
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
