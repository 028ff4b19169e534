"""Pictures by url: only what is missing, politely, under names that stay inside; what fails is listed with a reason."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import download_images as module
from pipeline.catalog import web
from pipeline.catalog.catalogue import open_items
from pipeline.catalog.download_images import Report, download_images, picture_urls, show
from pipeline.catalog.images import LONGEST_STEM, downloaded, file_stem
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources import tables
from pipeline.errors import MolarError
from tests.catalog.publisher import SILENCE, Publisher, only_this_machine, publishing
from tests.catalog.shop import ingest, ingest_params, png, write_shop

JPEG = b"\xff\xd8\xff\xe0" + b"j" * 500
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_machine(monkeypatch)
    monkeypatch.setattr(module, "HOST_SECONDS", 0.0)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        server.files |= {"/a": JPEG, "/b": png(), "/c": WEBP, "/d": b"GIF89a..."}
        yield server


def fetched(publisher: Publisher, root: Path, items: dict[str, str], limit: int | None = None) -> Report:
    """A call for `items` (id -> path); other urls are taken as they are."""
    urls = [(item, publisher.url(path) if path.startswith("/") else path) for item, path in items.items()]
    return download_images(urls, root, workers=4, limit=limit)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "images").iterdir())


def failures(root: Path) -> dict[str, str]:
    with (root / "images" / "failed.csv").open(encoding="utf-8", newline="") as handle:
        return {row["item"]: row["reason"] for row in csv.DictReader(handle)}


def test_the_first_bytes_choose_the_suffix(publisher: Publisher, tmp_path: Path) -> None:
    publisher.kinds["/b"] = "image/jpeg"  # it is none
    report = fetched(publisher, tmp_path, {"1": "/a", "2": "/b", "3": "/c", "4": "/d"})
    assert names(tmp_path) == ["1.jpg", "2.png", "3.webp", "4.gif"]
    assert (tmp_path / "images" / "1.jpg").read_bytes() == JPEG
    assert (report.fetched, report.there, report.failed) == (4, 0, [])


def test_what_is_no_picture_is_listed_with_its_reason(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    publisher.files |= {"/page": JPEG, "/text": b"plain words", "/empty": b"", "/huge": JPEG + bytes(1_000_000)}
    publisher.kinds["/page"] = "text/html; charset=utf-8"
    publisher.mishaps["/a"] = [500] * module.ATTEMPTS
    publisher.mishaps["/b"] = [("cut", 20)] * module.ATTEMPTS
    items = {
        "page": "/page",
        "text": "/text",
        "empty": "/empty",
        "huge": "/huge",
        "gone": "/gone",
        "a": "/a",
        "b": "/b",
    }
    report = fetched(publisher, tmp_path, items | {"file": "file:///etc/hosts", "odd": "http://[::1", "good": "/c"})
    assert failures(tmp_path) == {
        "page": "the server sent text/html, no picture",
        "text": "not a JPEG, PNG, GIF or WebP picture",
        "empty": "the picture is empty",
        "huge": "larger than 1 MB",
        "gone": "the server answered 404 Not Found",
        "a": "the server answered 500 Internal Server Error",
        "b": f"the connection ended {len(png()) - 20} bytes too early",
        "file": "not a valid url",
        "odd": "not a valid url",
    }
    assert names(tmp_path) == ["failed.csv", "good.webp"]
    show(report, tmp_path / "images")
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["  1 fetched, 0 were there already, 9 failed", "    2 x not a valid url"]
    assert said[-1] == f"  {tmp_path}/images/failed.csv names them; the same command tries them again"


def test_mishaps_on_the_way_are_waited_out(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", SILENCE)
    publisher.mishaps |= {"/a": [503, ("reset", 100)], "/b": [("stall", 10)]}
    assert fetched(publisher, tmp_path, {"1": "/a", "2": "/b"}).failed == []
    assert (tmp_path / "images" / "1.jpg").read_bytes() == JPEG


def test_a_second_call_fetches_what_is_missing_and_nothing_else(publisher: Publisher, tmp_path: Path) -> None:
    items = {"1": "/a", "2": "/gone", "3": "/c"}
    fetched(publisher, tmp_path, items)
    publisher.files["/gone"] = JPEG
    publisher.asked.clear()
    report = fetched(publisher, tmp_path, items)
    assert [path for path, _ in publisher.asked] == ["/gone"]
    assert (report.there, report.fetched) == (2, 1)
    assert names(tmp_path) == ["1.jpg", "2.jpg", "3.webp"], "no failure, no failed.csv"


def test_a_limit_turns_to_untried_pictures_before_failed_ones(publisher: Publisher, tmp_path: Path) -> None:
    items = {"1": "/gone", "2": "/lost", "3": "/a", "4": "/b"}
    assert fetched(publisher, tmp_path, items, limit=2).left == 2
    report = fetched(publisher, tmp_path, items, limit=1)
    assert names(tmp_path) == ["3.jpg", "failed.csv"]
    assert set(failures(tmp_path)) == {"1", "2"}, "not tried this time, and not forgotten"
    assert (report.fetched, report.left, len(report.failed)) == (1, 1, 2)


def test_the_first_url_of_an_item_counts(publisher: Publisher, tmp_path: Path) -> None:
    urls = [("1", publisher.url("/a")), ("1", publisher.url("/b"))]
    download_images(urls, tmp_path, workers=1, limit=None)
    assert names(tmp_path) == ["1.jpg"]


def test_no_more_requests_at_once_than_workers(publisher: Publisher, tmp_path: Path) -> None:
    publisher.together = threading.Barrier(4)
    fetched(publisher, tmp_path, {str(i): "/a" for i in range(40)})
    assert publisher.most_at_once == 4


def test_a_host_is_not_hurried_and_another_need_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module, "HOST_SECONDS", 0.5)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0, sleep=slept.append))
    manners = module._Manners()
    for url in ("http://p.example/1", "https://p.example/2", "http://q.example/1", "http://p.example/3", "http://[::1"):
        manners.wait_for(url)
    assert slept == [0.0, 0.5, 0.0, 1.0, 0.0]


def test_without_a_network_it_stops_early_and_keeps_what_it_has(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREACHABLE", 5)
    items = {"ok": "/a"} | {str(i): f"http://pictures{i}.example/" for i in range(100)}
    with pytest.raises(MolarError) as error:
        fetched(publisher, tmp_path, items)
    assert str(error.value) == (
        "5 pictures in a row could not be reached (host name not found): check the network or proxy, "
        "then run the same command again"
    )
    assert names(tmp_path) == ["failed.csv", "ok.jpg"]
    assert len(failures(tmp_path)) < 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, content: write(Path("/dev/full"), content))
    with pytest.raises(MolarError, match=f"the disk of {tmp_path}/images is full"):
        fetched(publisher, tmp_path, {"1": "/a"})


@pytest.mark.parametrize("item", ["../../evil", "/evil", "..", ".hidden", "a/b", "a\\b", "é", "x" * 300, "a b", "%2E"])
def test_an_id_never_leads_outside_and_is_found_again(publisher: Publisher, tmp_path: Path, item: str) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    fetched(publisher, root, {item: "/a"})
    assert [path.name for path in tmp_path.iterdir()] == ["raw"] and [path.name for path in root.iterdir()] == [
        "images"
    ]
    found = downloaded(root, item)
    assert found is not None and (root / found).read_bytes() == JPEG
    publisher.asked.clear()
    assert fetched(publisher, root, {item: "/a"}).there == 1
    assert publisher.asked == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=80), max_size=6, unique=True))
def test_different_ids_have_different_harmless_stems(ids: list[str]) -> None:
    stems = [file_stem(item) for item in ids]
    assert len(set(stems)) == len(ids)
    for stem in stems:
        assert len(stem) <= LONGEST_STEM and stem.isascii() and not stem.startswith(".")
        assert not set(stem) & set("/\\:\0 ")


def test_movielens_posters_come_from_either_file_and_odd_rows_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "movie_posters.csv").write_text('1,https://p.example/1.jpg\n2,"https://p.example/a,b.jpg"\n', "utf-8")
    (tmp_path / "image_source.csv").write_text(
        "movieId,source\n2,owner/name:images\n3,http://p.example/3.jpg\n4\n", "utf-8"
    )
    params = ingest_params(tmp_path, source="movielens")
    assert list(picture_urls(params)) == [
        ("1", "https://p.example/1.jpg"),
        ("2", "https://p.example/a,b.jpg"),
        ("3", "http://p.example/3.jpg"),
    ]
    assert capsys.readouterr().err == f"{tmp_path}/image_source.csv: 3 of 4 rows hold no movie id and http(s) url\n"


def test_movielens_without_urls(tmp_path: Path) -> None:
    with pytest.raises(MolarError) as error:
        list(picture_urls(ingest_params(tmp_path, source="movielens")))
    assert str(error.value) == (
        f"{tmp_path} holds neither movie_posters.csv nor image_source.csv: "
        f"add one, a row `movie id,url` for each poster"
    )


def test_a_file_of_urls_that_is_no_csv(tmp_path: Path) -> None:
    (tmp_path / "movie_posters.csv").write_text("1,https://p.example/1.jpg\n2," + "x" * 200_000, "utf-8")
    with pytest.raises(MolarError, match=r"movie_posters\.csv is no CSV after row 1 \(field larger than field limit"):
        list(picture_urls(ingest_params(tmp_path, source="movielens")))


def test_tables_give_the_urls_of_their_image_column(tmp_path: Path) -> None:
    items = "id,title,pic\na,Apple,https://p.example/a.png\nb,Boot,b.png\nc,Cup,\n"
    root = write_shop(tmp_path / "raw", items=items)
    (root / "interactions.csv").unlink()
    params = ingest_params(root, {"image": "pic", "text": None})
    assert list(picture_urls(params)) == [("a", "https://p.example/a.png")]
    with pytest.raises(MolarError, match=r"^ingest\.columns\.image is null"):
        picture_urls(ingest_params(root, {"image": None}))


def test_no_raw_folder(tmp_path: Path) -> None:
    with pytest.raises(MolarError, match=r"is no folder: `molar download` a data set or correct the path$"):
        picture_urls(ingest_params(tmp_path / "nowhere"))


def test_ingest_takes_the_downloaded_picture_of_a_url_and_quarantines_the_others(
    publisher: Publisher, tmp_path: Path
) -> None:
    url = publisher.url("/b")
    long_url = publisher.url("/" + "long" * 100)
    items = f"id,title,text,image,brand\na/1,Apple,,{url},\nb,Boot,,{long_url},\nc,Cup,,,\n"
    events = "user,item,timestamp\nann,a/1,1\nann,b,2\nann,c,3\nbob,a/1,1\nbob,b,2\nbob,c,3\n"
    root = write_shop(tmp_path / "raw", events, items)
    params = ingest_params(root, max_quarantine=0.5)
    (root / "images" / "b.png").unlink()  # the shop's own
    download_images(picture_urls(params), root, workers=1, limit=None)
    artifact = ingest(params, tmp_path / "catalog")
    assert open_items(artifact).has_image.tolist() == [True, False, False]
    raw = tables.read(root, params, Quarantine())
    assert [item.image for item in raw.items] == ["images/a%2F1.png", long_url, None]
