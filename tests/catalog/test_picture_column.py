"""Pictures inside items.parquet: bytes, or Hugging Face's struct, read a few at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import picture_column
from pipeline.catalog.catalogue import open_items
from pipeline.catalog.download_images import picture_urls
from tests.catalog.shop import ingest, ingest_params, png, write_shop

RED, BLUE = png(8, 8, "red"), png(8, 8, "blue")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shop(tmp_path: Path, pictures: pa.Array, **write: object) -> Path:
    """The shop with its items a, b, c, d in Parquet and a column of pictures."""
    root = write_shop(tmp_path / "raw")
    table = csv.read_csv(root / "items.csv").drop_columns(["image"]).add_column(1, "image", pictures)
    pq.write_table(table, root / "items.parquet", **write)
    (root / "items.csv").unlink()
    return root


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT, pa.struct([("bytes", pa.binary())])])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_each_item_gets_its_own_picture(tmp_path, monkeypatch, kind, rows) -> None:
    monkeypatch.setattr(picture_column, "AT_ONCE", 3)
    held = [BLUE, RED, None, b"junk"]  # c has none, and nobody met d
    if pa.types.is_struct(kind):
        held = [data and {"bytes": data, "path": f"{n}.png"} for n, data in enumerate(held)]
        held = [data and {field.name: data[field.name] for field in kind} for data in held]
    root = shop(tmp_path, pa.array(held, kind), row_group_size=rows)
    artifact = ingest(ingest_params(root), tmp_path / "catalog")
    items = open_items(artifact)
    assert [None if (p := items.image(n)) is None else p.getpixel((0, 0)) for n in range(3)] == [
        (0, 0, 255),
        (255, 0, 0),
        None,
    ]
    part = pq.ParquetFile(artifact.file("items/part-00000.parquet"))
    packed = [picture["path"] for picture in part.read(columns=["image.path"])["image"].to_pylist()[:2]]
    assert packed == (["0.png", "1.png"] if kind == STRUCT else ["row 1", "row 2"])
    assert items.attributes[0] == {"brand": "Orchard"}
    assert [path.name for path in tmp_path.joinpath("catalog").iterdir() if path.name.startswith(".")] == []


def test_what_is_no_picture_is_quarantined_by_name_or_row(tmp_path) -> None:
    held = [{"bytes": b"", "path": "a.png"}, {"bytes": None, "path": "b.png"}, {"bytes": b"junk", "path": None}, None]
    root = shop(tmp_path, pa.array(held, STRUCT))
    artifact = ingest(ingest_params(root, max_quarantine=1.0), tmp_path / "catalog")
    assert pq.read_table(artifact.file("quarantine.parquet")).to_pylist() == [
        {"source": "images", "row": 1, "reason": "picture file is empty", "value": "a.png"},
        {"source": "images", "row": 2, "reason": "picture has a path and no bytes", "value": "b.png"},
        {"source": "images", "row": 3, "reason": "not a picture", "value": "row 3"},
    ]


def test_a_picture_above_the_bound_is_not_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(picture_column, "MAX_BYTES", len(RED) - 1)
    root = shop(tmp_path, pa.array([RED, None, None, None], pa.binary()))
    artifact = ingest(ingest_params(root, max_quarantine=1.0), tmp_path / "catalog")
    assert [entry["reason"] for entry in pq.read_table(artifact.file("quarantine.parquet")).to_pylist()] == [
        "picture file is above 100 MB"
    ]


def test_there_is_nothing_to_download(tmp_path) -> None:
    root = shop(tmp_path, pa.array([RED, None, None, None], pa.binary()))
    assert list(picture_urls(ingest_params(root))) == []
