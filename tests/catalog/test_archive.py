"""Pictures in images.zip and images.tar: the same catalogue as from a folder, and nothing in an archive is trusted."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import archive as module
from pipeline.catalog import images, places, tar_headers
from pipeline.catalog.archive import Archive, beside
from pipeline.catalog.catalogue import open_items
from pipeline.catalog.images import UnusableImageError
from pipeline.catalog.places import Member, content
from pipeline.errors import MolarError
from tests.catalog.shop import ingest, ingest_params, png, refusal, write_shop

LONG = "x" * 150 + ".png"
PICTURES = {"a.png": b"first", "sub/b.png": b"second", LONG: b"third", "日本.png": b"fourth", "empty.png": b""}


def zipped(path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:", format=form) as archive:
        for name, data in files.items():
            archive.addfile(entry(name, size=len(data)), io.BytesIO(data))
    return path


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def got(archive: Archive, name: str) -> bytes | str:
    """The bytes of a picture, or why there are none."""
    found = archive.find(name)
    if isinstance(found, str):
        return found
    try:
        return content(found)
    except UnusableImageError as reason:
        return str(reason)


ARCHIVES = {
    "stored.zip": lambda path, files: zipped(path, files, zipfile.ZIP_STORED),
    "deflated.zip": zipped,
    "pax.tar": tarred,
    "gnu.tar": lambda path, files: tarred(path, files, tarfile.GNU_FORMAT),
}


@pytest.mark.parametrize("make", ARCHIVES)
@pytest.mark.parametrize("top", ["", "images/", "./images/"])
def test_every_picture_is_found_as_in_a_folder(tmp_path, make, top) -> None:
    archive = Archive(ARCHIVES[make](tmp_path / make, {top + name: data for name, data in PICTURES.items()}))
    for name, data in PICTURES.items():
        assert got(archive, name) == got(archive, f"images/{name}") == got(archive, f"./{name}") == data
    assert got(archive, "c.png") == got(archive, "") == "picture file not found"
    for outside in ("../a.png", "/a.png", "sub/../../a.png", "C:\\a.png", "C:/a.png", "sub\\b.png"):
        assert got(archive, outside) == "picture lies outside the archive"
    assert got(archive, "https://a/b.png") == "picture was not downloaded, run `molar download images`"


@pytest.mark.parametrize("make", ARCHIVES)
def test_a_catalogue_from_an_archive_equals_the_one_from_its_folder(tmp_path, make) -> None:
    root = write_shop(tmp_path / "raw")
    by_folder = ingest(ingest_params(root), tmp_path / "folder").facts
    files = {name: (root / "images" / name).read_bytes() for name in ("a.png", "b.png")}
    ARCHIVES[make](root / f"images.{make[-3:]}", files)
    shutil.rmtree(root / "images")
    assert ingest(ingest_params(root), tmp_path / "archive").facts == by_folder
    assert not (root / "images").exists()


@pytest.mark.parametrize("make", ARCHIVES)
def test_an_archive_with_a_missing_and_a_broken_picture(tmp_path, make) -> None:
    root = write_shop(tmp_path / "raw")
    shutil.rmtree(root / "images")
    ARCHIVES[make](root / f"images.{make[-3:]}", {"b.png": png(64, 64)[:-40]})
    artifact = ingest(ingest_params(root, max_quarantine=1.0), tmp_path / "catalog")
    assert not open_items(artifact).has_image.any()
    with pytest.raises(MolarError) as error:
        ingest(ingest_params(root, max_quarantine=0.9), tmp_path / "again")
    assert str(error.value) == (
        f"{root}/images: 2 of 2 pictures (100.0%) are unusable, above ingest.max_quarantine = 0.9: "
        f"1 x picture file not found (row 2: 'a.png'); 1 x picture is truncated or damaged (row 3: 'b.png'): "
        f"mend the file or raise the limit"
    )


def test_links_devices_and_folders_are_never_followed(tmp_path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    with tarfile.open(tmp_path / "images.tar", "w:") as tar:
        tar.addfile(entry("link.png", type=tarfile.SYMTYPE, linkname="../secret.png"))
        tar.addfile(entry("hard.png", type=tarfile.LNKTYPE, linkname="link.png", size=5))
        tar.addfile(entry("device.png", type=tarfile.CHRTYPE))
        tar.addfile(entry("pipe.png", type=tarfile.FIFOTYPE))
        tar.addfile(entry("folder.png", type=tarfile.DIRTYPE))
        tar.addfile(entry("../out.png", size=4), io.BytesIO(b"evil"))
        tar.addfile(entry("good.png", size=4), io.BytesIO(b"good"))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, mode in (("link.png", stat.S_IFLNK), ("device.png", stat.S_IFCHR), ("good.png", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, b"good")
        archive.writestr("../out.png", b"evil")
    for path in (tmp_path / "images.tar", tmp_path / "images.zip"):
        opened = Archive(path)
        assert got(opened, "link.png") == got(opened, "device.png") == "picture is no plain file in the archive"
        assert got(opened, "out.png") == "picture file not found"
        assert got(opened, "good.png") == b"good"
    for name in ("hard.png", "pipe.png", "folder.png"):
        assert got(Archive(tmp_path / "images.tar"), name) == "picture is no plain file in the archive"


def test_two_members_of_one_name(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"one")
        archive.writestr("images/a.png", b"two")
    assert got(Archive(tmp_path / "images.zip"), "a.png") == "archive holds two members of this name"


def test_an_encrypted_and_an_oddly_compressed_member(tmp_path) -> None:
    path = zipped(tmp_path / "images.zip", {"a.png": b"a"}, zipfile.ZIP_LZMA)
    reason = "picture is compressed in the archive in a way that is not read (deflate is)"
    assert got(Archive(path), "a.png") == reason
    path = zipped(tmp_path / "images.zip", {"a.png": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag in the directory
    path.write_bytes(data)
    assert got(Archive(path), "a.png") == "picture is encrypted in the archive"


def test_a_member_beyond_the_bound_is_not_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    for make in ARCHIVES:
        opened = Archive(ARCHIVES[make](tmp_path / make, {"a.png": b"a" * 101, "b.png": b"b" * 100}))
        assert got(opened, "a.png") == images.TOO_LARGE and got(opened, "b.png") == b"b" * 100
    with pytest.raises(UnusableImageError, match="above 100 MB"):
        content(Member(path=tmp_path / "none", name="a", start=0, length=10, size=images.MAX_BYTES + 1))


def test_a_bomb_that_claims_little_is_cut(tmp_path) -> None:
    bomb = bytes(10_000_000)
    path = zipped(tmp_path / "images.zip", {"a.png": bomb})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", len(bomb)), struct.pack("<I", 50)))
    assert got(Archive(path), "a.png") == "picture is larger in the archive than it claims"


def test_a_changed_byte_is_seen(tmp_path) -> None:
    path = zipped(tmp_path / "images.zip", {"a.png": b"hello" * 50}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"hellohello", b"hellohallo", 1))
    assert got(Archive(path), "a.png") == "picture is damaged in the archive"
    member = Archive(path).find("a.png")
    path.write_bytes(b"")
    with pytest.raises(UnusableImageError, match="damaged"):
        content(member)
    path.unlink()
    with pytest.raises(UnusableImageError, match="not found"):
        content(member)


def test_names_in_utf8_without_saying_so(tmp_path) -> None:
    path = zipped(tmp_path / "images.zip", {"xx.png": b"a"})
    path.write_bytes(path.read_bytes().replace(b"xx.png", "é.png".encode()))
    assert got(Archive(path), "é.png") == b"a"


def refused(root: Path) -> str:
    return refusal(lambda: beside(root))


def test_nothing_one_or_a_doubt(tmp_path) -> None:
    assert beside(tmp_path) is None
    (tmp_path / "images").mkdir()
    (tmp_path / "images.tar.gz").write_bytes(b"")  # already unpacked to images/
    assert beside(tmp_path) is None
    zipped(tmp_path / "images.zip", {})
    assert refused(tmp_path) == f"{tmp_path} holds both images/ and images.zip: keep the one whose pictures you mean"
    (tmp_path / "images").rmdir()
    tarred(tmp_path / "images.tar", {})
    assert refused(tmp_path).startswith(f"{tmp_path} holds both images.zip and images.tar: keep")


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("images.tar.gz", "gzip"),
        ("images.tgz", "gzip"),
        ("images.tar.bz2", "bzip2"),
        ("images.tar.xz", "xz"),
        ("images.tar.zst", "zstd"),
    ],
)
def test_a_compressed_tar_says_what_to_do(tmp_path, name, tool) -> None:
    (tmp_path / name).write_bytes(b"")
    assert refused(tmp_path) == (
        f"{tmp_path}/{name} is compressed as a whole, so no picture in it can be read by itself: "
        f"make it a plain tar ({tool} -d) or unpack it"
    )


def test_a_compressed_tar_under_a_plain_name(tmp_path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w:gz") as archive:
        archive.addfile(entry("a.png"))
    assert "is compressed as a whole" in refused(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 700, 1_000])
def test_a_damaged_tar_is_one_line(tmp_path, keep) -> None:
    path = tarred(tmp_path / "images.tar", {"a.png": b"a" * 1_000, "b.png": b"b"}, tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[:keep])
    assert refused(tmp_path).startswith(f"{path} is damaged or no tar archive (")


def test_a_tar_damaged_in_the_middle_does_not_end_there(tmp_path) -> None:
    path = tarred(tmp_path / "images.tar", {"a.png": b"a", "b.png": b"b"}, tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[1024:1030] = b"mangle"
    path.write_bytes(data)
    assert refused(tmp_path) == (
        f"{path} is damaged or no tar archive (no header at byte 1,024): make or copy it again"
    )


def test_a_header_that_claims_a_negative_or_an_endless_size(tmp_path) -> None:
    for size in (-512, 10**15):
        info = entry("a.png", size=size).tobuf(tarfile.GNU_FORMAT)
        (tmp_path / "images.tar").write_bytes(info + bytes(2048))
        assert "is damaged or no tar archive" in refused(tmp_path)
    long_name = entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1 << 30)
    (tmp_path / "images.tar").write_bytes(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert "a name of 1,073,741,824 bytes" in refused(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_damaged_zip_is_one_line(tmp_path, keep) -> None:
    path = zipped(tmp_path / "images.zip", {"a.png": b"a" * 1_000})
    path.write_bytes(path.read_bytes()[:keep])
    assert refused(tmp_path).startswith(f"{path} is damaged or no zip archive (")


def test_a_member_without_a_name_is_no_picture(tmp_path) -> None:
    path = zipped(tmp_path / "images.zip", {"a.png": b"a" * 100, "b.png": b"b" * 100})
    path.write_bytes(path.read_bytes().replace(b"a.png", b"\0.png"))  # names end at the first NUL
    assert Archive(path).names() == ["b.png"]


@pytest.mark.parametrize("make", ["deflated.zip", "pax.tar", "gnu.tar"])
def test_any_flipped_bytes_are_a_line_or_a_reason(tmp_path, make) -> None:
    whole = ARCHIVES[make](tmp_path / make, PICTURES).read_bytes()

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=6))
    def check(flips) -> None:
        data = bytearray(whole)
        for place, value in flips:
            data[place] = value
        (tmp_path / make).write_bytes(data)
        try:
            opened = Archive(tmp_path / make)
        except MolarError as error:
            assert "damaged" in str(error) or "compressed" in str(error)
            return
        for name in PICTURES:
            assert isinstance(got(opened, name), bytes | str)

    check()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=120).filter(
            lambda name: name not in (".", "..", "images")
        ),
        st.binary(max_size=1_100),
        max_size=6,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_the_walk_sees_what_tarfile_wrote(files, form) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=form) as archive:
        for name, data in files.items():
            archive.addfile(entry(name, size=len(data)), io.BytesIO(data))
    data = buffer.getvalue()
    buffer.seek(0)
    found = {h.name: data[h.start : h.start + h.size] for h in tar_headers._walk(buffer, len(data))}
    assert found == files


def test_a_place_is_small_enough_to_be_sent(tmp_path) -> None:
    assert isinstance(Archive(zipped(tmp_path / "images.zip", PICTURES)).find("a.png"), places.Member)
