"""Whatever the source, `datasets.load_dataset("parquet")` opens the catalogue without this project.

The column `image` then holds bytes and path; `cast_column("image", Image())` makes pictures of it.
"""

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.catalog import amazon_shelf, test_movielens, test_pixelrec, test_recbole
from tests.catalog.shop import ingest, ingest_params, png, write_shop
from tests.catalog.test_amazon import LAYOUTS


def recbole(root: Path) -> Path:
    test_recbole.folder(root, inter=test_recbole.INTER, item=test_recbole.ITEM)
    (root / "images").mkdir()
    (root / "images" / "242.jpg").write_bytes(png())
    return root


def hundred_thousand(root: Path) -> Path:
    test_movielens.hundred_thousand(root)
    (root / "images").mkdir()
    (root / "images" / "3.jpg").write_bytes(png())
    return root


SOURCES = {
    "tables": ("tables", write_shop, ["title", "text"]),
    "movielens 1M": ("movielens", test_movielens.one_million, ["title", "text"]),
    "movielens 100K": ("movielens", hundred_thousand, ["title"]),
    "movielens CSV": ("movielens", test_movielens.as_csv, ["title"]),
    "pixelrec": ("pixelrec", test_pixelrec.published, ["title", "text"]),
    "recbole": ("recbole", recbole, ["title"]),
} | {
    f"amazon {name}": ("amazon", lambda root, files=LAYOUTS[name]: amazon_shelf.write(root, files), ["title"])
    for name in ("2014 reviews", "2018 ratings", "2023 reviews")
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`load_dataset`, offline and with its cache in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def opened(files: list[Path] | Path):
        paths = [str(path) for path in (files if isinstance(files, list) else [files])]
        return datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(tmp_path / "cache"))

    return opened


@pytest.mark.parametrize("case", SOURCES)
def test_items_and_sequences_open_and_pictures_decode(case, tmp_path, load) -> None:
    source, write, words = SOURCES[case]
    params = ingest_params(write(tmp_path / "raw"), source=source, max_quarantine=1.0)
    artifact = ingest(params, tmp_path / "catalog")
    items = load([artifact.file(name) for name in artifact.names if name.startswith("items/")])
    assert len(items) == artifact.facts["items"] > 0
    assert items["item_idx"][:] == list(range(len(items)))
    for name in words:
        assert any(items[name])
    decoded = items.cast_column("image", sys.modules["datasets"].Image())
    pictures = [picture for picture in decoded["image"] if picture is not None]
    assert all(isinstance(picture, Image.Image) and picture.size == (8, 8) for picture in pictures)
    assert pictures or case == "movielens CSV"
    sequences = load(artifact.file("sequences.parquet"))
    assert len(sequences) == artifact.facts["users"]
    assert sum(len(chosen) for chosen in sequences["items"]) == artifact.facts["interactions"]
