"""A published data set is complete and checked, or absent; what was not checked is said to be so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.catalog import download as module
from pipeline.catalog import web
from pipeline.catalog.download import CATEGORIES, MOVIELENS, NAMES, Published, download, listing, published
from pipeline.errors import MolarError
from tests.catalog.publisher import Publisher, only_this_machine, publishing, zipped

ARCHIVE = zipped({"films/ratings.dat": b"1::1::5::9\n", "films/README": b"words " * 1_000})
MD5 = hashlib.md5(ARCHIVE).hexdigest()
ZIP = "/data/films.zip"


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_machine(monkeypatch)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        server.files[ZIP] = ARCHIVE
        server.files[f"{ZIP}.md5"] = f"{MD5}  films.zip\n".encode()
        yield server


def films(publisher: Publisher) -> Published:
    return Published("films", (publisher.url(ZIP),), True, "licence: ask")


def refused(data: Published, raw: Path) -> str:
    with pytest.raises(MolarError) as error:
        download(data, raw)
    assert not (raw / data.folder).exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_archive_is_checked_and_unpacked_and_nothing_else_is_left(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "data" / "raw"
    assert download(films(publisher), raw) == raw / "films"
    assert sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*")) == [
        "films",
        "films/README",
        "films/ratings.dat",
    ]
    assert capsys.readouterr().err.splitlines() == ["licence: ask", "films.zip: MD5 as its publisher states"]


def test_what_is_there_is_left_alone_and_nobody_is_asked(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").mkdir()
    download(films(publisher), tmp_path)
    assert capsys.readouterr().err == (f"{tmp_path}/films is there already: remove or rename it to download it again\n")
    assert publisher.asked == [] and list((tmp_path / "films").iterdir()) == []


@pytest.mark.parametrize(
    "text", [f"{MD5}  films.zip", f"MD5 (films.zip) = {MD5}", MD5.upper(), f"{MD5} *films.zip\r\n"]
)
def test_every_way_of_writing_a_checksum_file_is_read(publisher: Publisher, tmp_path: Path, text: str) -> None:
    publisher.files[f"{ZIP}.md5"] = text.encode()
    download(films(publisher), tmp_path)
    publisher.files[f"{ZIP}.md5"] = text.replace(MD5[:4], "0000").replace(MD5[:4].upper(), "0000").encode()
    assert f"its publisher states 0000{MD5[4:]}" in refused(replace(films(publisher), folder="again"), tmp_path)


def test_a_wrong_checksum_removes_the_file_and_the_next_call_starts_afresh(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.files[ZIP] = ARCHIVE[:-1] + b"?"
    found = hashlib.md5(publisher.files[ZIP]).hexdigest()
    assert refused(films(publisher), tmp_path) == (
        f"films.zip has the MD5 {found}, its publisher states {MD5}: it was removed, download it again"
    )
    assert list((tmp_path / ".films.partial").iterdir()) == []
    publisher.files[ZIP] = ARCHIVE
    download(films(publisher), tmp_path)
    assert (tmp_path / "films" / "ratings.dat").read_bytes() == b"1::1::5::9\n"


@pytest.mark.parametrize("checksum", [None, b"<html>welcome</html>", f"{MD5} {'0' * 32}".encode()])
def test_without_one_published_checksum_it_is_said_that_nothing_was_verified(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str], checksum: bytes | None
) -> None:
    del publisher.files[f"{ZIP}.md5"]
    if checksum is not None:
        publisher.files[f"{ZIP}.md5"] = checksum
    download(films(publisher), tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "films.zip: not verified, the publisher gives no checksum"
    assert ("films.zip.md5: the server answered 404 Not Found" in said[1]) == (checksum is None)


def test_a_checksum_that_cannot_be_asked_for_now_is_not_done_without(publisher: Publisher, tmp_path: Path) -> None:
    publisher.mishaps[f"{ZIP}.md5"] = [500] * web.ATTEMPTS
    assert "films.zip.md5 failed 6 times in a row" in refused(films(publisher), tmp_path)
    assert [path for path, _ in publisher.asked] == [f"{ZIP}.md5"] * web.ATTEMPTS


def test_an_archive_that_lay_there_when_we_were_killed_is_checked_again(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / ".films.partial").mkdir()
    (tmp_path / ".films.partial" / "films.zip").write_bytes(ARCHIVE)
    (tmp_path / ".films.partial" / ".films.partial").mkdir()
    download(films(publisher), tmp_path)
    assert [path for path, _ in publisher.asked] == [f"{ZIP}.md5"]
    assert [path.name for path in tmp_path.iterdir()] == ["films"]


def test_several_files_are_there_together_or_not_at_all(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.files |= {"/Toys.jsonl.gz": b"reviews", "/meta_Toys.jsonl.gz": b"meta"}
    urls = publisher.url("/Toys.jsonl.gz"), publisher.url("/meta_Toys.jsonl.gz")
    data = Published("toys", urls, False, "licence: ask")
    publisher.mishaps["/meta_Toys.jsonl.gz"] = [404]
    assert "meta_Toys.jsonl.gz cannot be downloaded: the server answered 404" in refused(data, tmp_path)
    download(data, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "toys").iterdir()} == {
        "Toys.jsonl.gz": b"reviews",
        "meta_Toys.jsonl.gz": b"meta",
    }
    assert [path for path, _ in publisher.asked].count("/Toys.jsonl.gz") == 1
    assert "Toys.jsonl.gz: not verified, the publisher gives no checksum" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_an_unsafe_archive_leaves_nothing_in_the_raw_folder(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files[ZIP] = zipped({"../evil": b"x"})
    del publisher.files[f"{ZIP}.md5"]
    assert "its member '../evil' would be written outside the folder" in refused(films(publisher), tmp_path)
    assert not (tmp_path / "evil").exists()


def test_offline_is_told_by_the_first_file_asked_for(tmp_path: Path) -> None:
    line = refused(MOVIELENS["movielens-1m"], tmp_path)
    assert line.startswith("https://files.grouplens.org/datasets/movielens/ml-1m.zip.md5 cannot be reached (host name")


def test_names_lead_to_the_publishers_own_files_and_the_presets_folders() -> None:
    assert {name: data.folder for name, data in MOVIELENS.items()} == {
        "movielens-100k": "ml-100k",
        "movielens-1m": "ml-1m",
        "movielens-25m": "ml-25m",
        "movielens-32m": "ml-32m",
        "movielens-latest-small": "ml-latest-small",
    }
    assert published("movielens-25m", None).urls == ("https://files.grouplens.org/datasets/movielens/ml-25m.zip",)
    beauty = published("amazon-2023", "All_Beauty")
    assert beauty.folder == "amazon-2023-All_Beauty"
    assert beauty.urls == (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/All_Beauty.jsonl.gz",
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/meta_categories/meta_All_Beauty.jsonl.gz",
    )


@pytest.mark.parametrize(
    ("name", "category", "line"),
    [
        ("netflix", None, f"no data set 'netflix' to download (there are: {', '.join(NAMES)})"),
        ("movielens-1m", "Books", "--category goes with amazon-2023: movielens-1m has no categories, leave it out"),
        ("amazon-2023", None, f"amazon-2023 comes by category, it needs --category: {', '.join(CATEGORIES)}"),
        (
            "amazon-2023",
            "../x",
            f"amazon-2023 comes by category, --category ../x is none of them: {', '.join(CATEGORIES)}",
        ),
    ],
)
def test_what_is_not_published(name: str, category: str | None, line: str) -> None:
    with pytest.raises(MolarError) as error:
        published(name, category)
    assert str(error.value) == line


def test_the_list_names_everything_that_can_be_downloaded() -> None:
    assert tuple(line.split()[0] for line in listing()) == NAMES
    assert "7z x cover.7z" in module.PIXELREC
