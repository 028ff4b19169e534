"""Pictures of the published data sets: in their folder, or in one archive in its place, as people download them."""

import pytest

from pipeline.catalog.catalogue import open_items
from pipeline.catalog.sources.pictures import pictures_beside
from tests.catalog import amazon_shelf, test_movielens, test_pixelrec, test_recbole
from tests.catalog.shop import ingest, ingest_params, png, refusal
from tests.catalog.test_archive import tarred, zipped


def shelf(root):
    meta = amazon_shelf.json_lines(amazon_shelf.META_2023)
    return amazon_shelf.write(root, {"Shoes.jsonl": amazon_shelf.REVIEWS_2023, "meta_Shoes.jsonl": meta})


def atomic(root):
    root.mkdir()
    test_recbole.folder(root, inter=test_recbole.INTER, item=test_recbole.ITEM)
    (root / "images").mkdir()
    (root / "images" / "302.jpg").write_bytes(png())
    return root


WITH_PICTURES = {  # source: a raw folder with pictures, their folder
    "movielens": (test_movielens.one_million, "images"),
    "amazon": (shelf, "images"),
    "pixelrec": (test_pixelrec.published, "covers"),
    "recbole": (atomic, "images"),
}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("source", WITH_PICTURES)
def test_an_archive_stands_in_for_the_folder(tmp_path, source, pack) -> None:
    make, folder = WITH_PICTURES[source]
    root = make(tmp_path / "raw")
    params = ingest_params(root, source=source, max_quarantine=0.5)
    plain = ingest(params, tmp_path / "plain")
    files = {f"any top/{path.name}": path.read_bytes() for path in (root / folder).iterdir()}
    for path in (root / folder).iterdir():
        path.unlink()
    (root / folder).rmdir()
    pack(root / f"{folder}{'.zip' if pack is zipped else '.tar'}", files)
    packed = ingest(params, tmp_path / "packed")
    for name in ("sequences.parquet", "quarantine.parquet"):
        assert packed.file(name).read_bytes() == plain.file(name).read_bytes()
    one, other = open_items(plain), open_items(packed)
    assert [one.image_bytes(i) for i in range(len(one))] == [other.image_bytes(i) for i in range(len(other))]
    assert one.has_image.any()


def test_a_folder_beside_an_archive_or_two_archives_are_refused(tmp_path) -> None:
    zipped(tmp_path / "covers.zip", {"1.jpg": png()})
    zipped(tmp_path / "images.zip", {"1.jpg": png()})
    (tmp_path / "cover").mkdir()
    assert refusal(lambda: pictures_beside(tmp_path, "covers", "cover", "images")) == (
        f"{tmp_path} holds both cover/ and covers.zip and images.zip: keep the one whose pictures you mean"
    )


def test_of_two_pictures_of_one_name_the_earlier_suffix_counts(tmp_path) -> None:
    names = ["b/1.png", "b/1.jpg", "a/1.jpg", "a/notes.txt", "2.webp"]
    zipped(tmp_path / "images.zip", dict.fromkeys(names, b""))
    found, packed = pictures_beside(tmp_path, "images")
    assert packed is not None and found == {"1": "a/1.jpg", "2": "2.webp"}
    (tmp_path / "images.zip").unlink()
    (tmp_path / "cover").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("cover/1.png", "images/1.jpg", "images/2.gif"):
        (tmp_path / name).touch()
    assert pictures_beside(tmp_path, "cover", "images") == ({"1": "cover/1.png", "2": "images/2.gif"}, None)
