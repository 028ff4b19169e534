"""A file arrives whole or not at all, whatever the network does on the way; what cannot be helped is one line."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog import web
from pipeline.catalog.transfer import fetch
from pipeline.errors import MolarError
from tests.catalog.publisher import SILENCE, Publisher, only_this_machine, publishing

CONTENT = random.Random(0).randbytes(40_000)
PATH = "/data/films.zip"


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_machine(monkeypatch)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        server.files[PATH] = CONTENT
        yield server


def fetched(publisher: Publisher, folder: Path) -> bytes:
    """What a fetch wrote, nothing being left beside it."""
    target = folder / "films.zip"
    fetch(publisher.url(PATH), target)
    assert [path.name for path in folder.iterdir()] == ["films.zip"]
    return target.read_bytes()


def refused(publisher: Publisher, folder: Path) -> str:
    """The one line of a fetch that fails, and writes no file of the final name."""
    with pytest.raises(MolarError) as error:
        fetch(publisher.url(PATH), folder / "films.zip")
    assert not (folder / "films.zip").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("mishap", [500, 503, 429, ("cut", 0)])
def test_a_server_that_fails_once_is_asked_again(publisher: Publisher, tmp_path: Path, mishap: object) -> None:
    publisher.mishaps[PATH] = [mishap]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked() == [None, None]


@pytest.mark.parametrize("mishap", ["cut", "reset", "stall"])
def test_what_was_received_before_a_break_is_not_asked_for_again(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mishap: str
) -> None:
    if mishap == "stall":
        monkeypatch.setattr(web, "TIMEOUT_SECONDS", SILENCE)
    publisher.mishaps[PATH] = [(mishap, 15_000), (mishap, 10_000)]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked() == [None, "bytes=15000-", "bytes=25000-"]


def test_another_call_goes_on_where_a_killed_one_stopped(publisher: Publisher, tmp_path: Path) -> None:
    publisher.mishaps[PATH] = [("cut", 15_000), *[500] * web.ATTEMPTS]
    assert refused(publisher, tmp_path) == (
        f"{publisher.url(PATH)} failed 6 times in a row (the server answered 500 Internal Server Error): "
        f"run the same command again later, it goes on from there"
    )
    assert (tmp_path / "films.zip.partial").read_bytes() == CONTENT[:15_000]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked()[-1] == "bytes=15000-"


def test_a_server_that_knows_no_ranges_sends_everything_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges = False
    publisher.mishaps[PATH] = [("cut", 15_000)]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked() == [None, "bytes=15000-"]


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_in_between_is_never_glued_to_the_old_one(
    publisher: Publisher, tmp_path: Path, careless: bool
) -> None:
    publisher.careless = careless
    publisher.mishaps[PATH] = [("cut", 15_000), *[500] * web.ATTEMPTS]
    refused(publisher, tmp_path)
    publisher.files[PATH] = CONTENT[::-1]
    assert fetched(publisher, tmp_path) == CONTENT[::-1]


def test_a_partial_file_of_another_url_is_started_over(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/other.zip"] = CONTENT[::-1]
    publisher.etag, publisher.last_modified = None, "Sat, 01 Jan 2000 00:00:00 GMT"  # the same for both
    publisher.mishaps[PATH] = [("cut", 15_000), *[500] * web.ATTEMPTS]
    refused(publisher, tmp_path)
    fetch(publisher.url("/other.zip"), tmp_path / "films.zip")
    assert (tmp_path / "films.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("etag", "last_modified"), [(None, None), ("W/", None)])
def test_nothing_is_continued_on_a_server_that_proves_no_identity(
    publisher: Publisher, tmp_path: Path, etag: str | None, last_modified: str | None
) -> None:
    publisher.etag, publisher.last_modified = etag, last_modified
    publisher.mishaps[PATH] = [("cut", 15_000)]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked() == [None, None]


def test_the_time_of_change_stands_in_for_a_weak_etag(publisher: Publisher, tmp_path: Path) -> None:
    publisher.etag, publisher.last_modified = "W/", "Sat, 01 Jan 2000 00:00:00 GMT"
    publisher.mishaps[PATH] = [("cut", 15_000)]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.asked[1][1]["If-Range"] == publisher.last_modified


def test_a_server_that_sends_another_part_is_not_believed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.mishaps[PATH] = [("cut", 15_000), ("part", 14_000)]
    assert fetched(publisher, tmp_path) == CONTENT
    assert publisher.ranges_asked() == [None, "bytes=15000-", None]


@pytest.mark.parametrize(("there", "requests"), [(CONTENT, 1), (CONTENT + b"more", 2)])
def test_a_partial_file_with_every_byte_is_taken_and_a_longer_one_is_not(
    publisher: Publisher, tmp_path: Path, there: bytes, requests: int
) -> None:
    (tmp_path / "films.zip.partial").write_bytes(there)
    note = {"url": publisher.url(PATH), "validator": publisher.tag_of(PATH)}
    (tmp_path / "films.zip.partial.json").write_text(json.dumps(note))
    assert fetched(publisher, tmp_path) == CONTENT
    assert len(publisher.asked) == requests


@pytest.mark.parametrize("note", ["", "[]", '{"url": 3}', '{"validator": {}}', "\x00"])
def test_a_damaged_note_beside_the_partial_file_means_starting_over(
    publisher: Publisher, tmp_path: Path, note: str
) -> None:
    (tmp_path / "films.zip.partial").write_bytes(b"something else")
    (tmp_path / "films.zip.partial.json").write_text(note)
    assert fetched(publisher, tmp_path) == CONTENT


def test_a_slow_trickle_is_followed_beyond_the_number_of_attempts(publisher: Publisher, tmp_path: Path) -> None:
    publisher.mishaps[PATH] = [("cut", 4_000)] * 9
    assert fetched(publisher, tmp_path) == CONTENT
    assert len(publisher.asked) == 10 > web.ATTEMPTS


def test_a_server_that_always_breaks_at_one_place_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges = False
    publisher.mishaps[PATH] = [("cut", 4_000)] * 100
    assert "failed 6 times in a row (the connection ended 36,000 bytes too early)" in refused(publisher, tmp_path)
    assert len(publisher.asked) == web.ATTEMPTS


@pytest.mark.parametrize(
    ("mishap", "reason"),
    [
        (404, "the server answered 404 Not Found"),
        (403, "the server answered 403 Forbidden"),
        (("redirect", "ftp://127.0.0.1/films.zip"), "unknown url type: ftp"),
        (("redirect", "file:///films.zip"), "the server answered 302 "),
    ],
)
def test_a_no_is_taken_at_once(publisher: Publisher, tmp_path: Path, mishap: object, reason: str) -> None:
    publisher.mishaps[PATH] = [mishap]
    line = refused(publisher, tmp_path)
    assert line.startswith(f"{publisher.url(PATH)} cannot be downloaded: {reason}")
    assert len(publisher.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_redirects_are_followed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/moved.zip"] = CONTENT
    publisher.mishaps[PATH] = [("redirect", publisher.url("/moved.zip"))]
    assert fetched(publisher, tmp_path) == CONTENT


def test_offline_is_one_line_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MolarError) as error:
        fetch("https://films.example/films.zip", tmp_path / "films.zip")
    assert str(error.value) == (
        "https://films.example/films.zip cannot be reached (host name not found): check the network or proxy, "
        "then run the same command again"
    )
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://films.example/a", "films.zip", "http://[::1", "http://"])
def test_what_is_no_http_url_is_never_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(MolarError, match="cannot be downloaded: not a valid url"):
        fetch(url, tmp_path / "films.zip")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "films.zip.partial").symlink_to("/dev/full")
    assert refused(publisher, tmp_path) == (
        f"the disk of {tmp_path}/films.zip is full: make room, then run the same command again"
    )


def test_a_file_that_will_not_fit_is_refused_before_its_first_byte(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=30_000))
    assert refused(publisher, tmp_path).startswith(f"{tmp_path} needs 0.0 MB more and its disk has 0.0 MB")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "films.zip.partial").mkdir()
    assert "films.zip cannot be written (Is a directory)" in refused(publisher, tmp_path)


MISHAPS = st.one_of(
    st.sampled_from([500, 502, 503]),
    st.tuples(st.sampled_from(["cut", "reset"]), st.integers(0, len(CONTENT) - 1)),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mishaps=st.lists(MISHAPS, max_size=5), ranges=st.booleans())
def test_any_few_mishaps_end_in_the_very_bytes(publisher: Publisher, mishaps: list[object], ranges: bool) -> None:
    publisher.ranges, publisher.mishaps[PATH] = ranges, mishaps
    with tempfile.TemporaryDirectory() as folder:
        assert fetched(publisher, Path(folder)) == CONTENT
