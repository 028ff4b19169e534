"""A shop of a few rows on disk, and params for it: what the catalogue tests share."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import artifacts
from pipeline.artifacts import Artifact
from pipeline.catalog.build import build
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest, TablesColumns

INTERACTIONS = """user,item,timestamp
ann,a,10
bob,b,11
ann,b,20
bob,a,21
ann,c,30
bob,c,31
"""
ITEMS = """id,title,text,image,brand
a,Apple,A fruit,a.png,Orchard
b,Boot,,b.png,
c,Cup,A vessel,,Potter
d,Dial,Unseen,,
"""


def png(width: int = 8, height: int = 8, colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: 57 bytes, whatever the size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write_shop(root: Path, interactions: str = INTERACTIONS, items: str = ITEMS) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "interactions.csv").write_text(interactions, "utf-8")
    (root / "items.csv").write_text(items, "utf-8")
    for name in ("a", "b"):
        (root / "images" / f"{name}.png").write_bytes(png())
    return root


def ingest_params(root: Path, columns: dict[str, Any] | None = None, **changes: Any) -> Ingest:
    named = {
        "user": "user",
        "item": "item",
        "timestamp": "timestamp",
        "rating": None,
        "id": "id",
        "title": "title",
        "text": "text",
        "caption": None,
        "summary": None,
        "image": "image",
        "attributes": [],
    }
    values = {
        "source": "tables",
        "path": str(root),
        "columns": TablesColumns(**(named | (columns or {}))),
        "published": None,
        "since": None,
        "before": None,
        "min_rating": None,
        "duplicates": "all",
        "cold_items": "none",
        "cold_share": 0.1,
        "cold_seed": 0,
        "max_history": None,
        "k_core": 1,
        "split": "leave_one_out",
        "valid_share": 0.1,
        "test_share": 0.1,
        "keep_unseen_items": False,
        "image_size": 64,
        "max_image_pixels": 50_000_000,
        "max_quarantine": 0.0,
    }
    return Ingest(**(values | changes))


def ingest(params: Ingest, directory: Path) -> Artifact:
    with artifacts.write(directory) as out:
        build(params, out)
    return artifacts.read(directory, "ingest")


def refusal(call: Callable[[], object]) -> str:
    """The one line with which `call` is refused."""
    with pytest.raises(MolarError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)
