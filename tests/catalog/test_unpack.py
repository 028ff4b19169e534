"""Nothing in an archive is trusted: no member leaves the folder, none is a link, none grows beyond its bound."""

from __future__ import annotations

import io
import shutil
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import unpack as module
from pipeline.catalog.unpack import unpack
from pipeline.errors import MolarError
from tests.catalog.publisher import zipped

FILMS = {"films/ratings.dat": b"1::1::5::9\n", "films/sub/README": b"words " * 100}


def written(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "films.zip").write_bytes(content)
    return tmp_path / "films.zip"


def member(name: str, mode: int = stat.S_IFREG, content: bytes = b"evil") -> bytes:
    """An archive of one good and one strange member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("films/ratings.dat", b"1::1::5::9\n")
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # the constructor would tidy it
        info.external_attr = (mode | 0o644) << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def refused(tmp_path: Path, content: bytes) -> str:
    """The one line of an archive that is not unpacked: nothing of it is left."""
    archive = written(tmp_path, content)
    with pytest.raises(MolarError) as error:
        unpack(archive, tmp_path / "raw" / "films")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films.zip", "raw"]
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{archive} is ")


@pytest.mark.parametrize("top", ["films/", "other/", ""])
def test_a_top_folder_of_the_same_name_is_not_repeated(tmp_path: Path, top: str) -> None:
    files = {name.replace("films/", top): content for name, content in FILMS.items()}
    unpack(written(tmp_path, zipped(files)), tmp_path / "raw" / "films")
    folder = tmp_path / "raw" / "films" / ("other" if top == "other/" else "")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {"ratings.dat", "sub", "sub/README"}
    assert (folder / "sub" / "README").read_bytes() == FILMS["films/sub/README"]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["films"]


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "films/../../evil", "films/..", "C:evil", "c:/evil", "..\\evil", "films\\evil", "//host/evil"],
)
def test_a_member_that_would_leave_the_folder(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, member(name)) == (f"not unpacked: its member {name!r} would be written outside the folder")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    line = refused(tmp_path, member("films/link", kind, b"/etc/passwd"))
    assert line == "not unpacked: its member 'films/link' is a link or a device"


def test_a_bomb_is_refused_by_what_it_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped({"films/zeros": b"\0" * 3_000_000})
    assert len(bomb) < 10_000
    monkeypatch.setattr(module, "MAX_MEMBER_BYTES", 1_000_000)
    assert "its member 'films/zeros' claims 3.0 MB, above the bound of 1.0 MB" in refused(tmp_path, bomb)


def test_many_members_that_are_harmless_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = zipped({f"films/{i}": b"\0" * 1_000_000 for i in range(4)})
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 3_000_000)
    assert "4 members of 4.0 MB in all are more than" in refused(tmp_path, many)
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 10_000_000)
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    assert "4 members of 4.0 MB in all are more than the 3 and" in refused(tmp_path, many)


def test_a_bomb_that_claims_to_be_small_ends_at_its_claim(tmp_path: Path) -> None:
    size = 3_000_000
    bomb = bytearray(zipped({"films/zeros": b"\0" * size}))
    lie = bytes(bomb).replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert lie != bomb
    assert refused(tmp_path, lie).startswith("no zip archive or damaged (Bad CRC-32")


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        twice = member("films/ratings.dat")
    assert refused(tmp_path, twice) == "not unpacked: it holds two members of one name"


def test_encrypted_and_oddly_compressed_members(tmp_path: Path) -> None:
    plain = zipped({"films/a": b"a"})
    central = plain.index(b"PK\x01\x02")
    encrypted, odd = bytearray(plain), bytearray(plain)
    encrypted[central + 8] |= 1
    odd[central + 10] = 99
    assert refused(tmp_path, bytes(encrypted)) == "not unpacked: its member 'films/a' is encrypted"
    assert "compressed in a way" in refused(tmp_path, bytes(odd))


@pytest.mark.parametrize("content", [b"", b"<html>sign in to the network</html>", zipped(FILMS)[:-30]])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content) == (
        "no zip archive or damaged (File is not a zip file): remove it and download it again"
    )


def test_an_archive_that_will_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(MolarError, match=r"needs 0\.0 MB more and its disk has 0\.0 MB"):
        unpack(written(tmp_path, zipped(FILMS)), tmp_path / "films")
    assert not (tmp_path / "films").exists()


def test_what_a_killed_unpacking_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".films.partial").mkdir()
    (tmp_path / ".films.partial" / "ratings.dat").write_bytes(b"half")
    unpack(written(tmp_path, zipped(FILMS)), tmp_path / "films")
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["ratings.dat", "sub"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(zipped(FILMS)) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_gives_one_line_or_the_very_content(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(zipped(FILMS))
    for position, value in changes:
        damaged[position] = value
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            unpack(written(folder, bytes(damaged)), folder / "films")
        except MolarError as error:
            assert "\n" not in str(error)
            assert sorted(path.name for path in folder.iterdir()) == ["films.zip"]
        else:  # a name may have changed, or a date; contents are under a CRC
            assert set(files_of(folder / "films").values()) <= set(FILMS.values())


PARTS = st.sampled_from(["..", ".", "", "a", "films", "C:", "\\", "...", " ", "é"])


@settings(max_examples=100, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5).map("/".join))
def test_no_name_leads_outside(name: str) -> None:
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside)
        archive = written(folder, member(name))
        (folder / "raw").mkdir()
        with warnings.catch_warnings(action="ignore"):
            try:
                unpack(archive, folder / "raw" / "films")
            except MolarError:
                assert list((folder / "raw").iterdir()) == []
        assert {path.name for path in folder.iterdir()} == {"films.zip", "raw"}
        assert {path.name for path in (folder / "raw").iterdir()} <= {"films"}
