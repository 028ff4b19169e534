"""Pictures: bounded before decoding, the same bytes each time, and a reason for each that cannot be used."""

import io

import pytest
from PIL import Image

from pipeline.catalog.catalogue import open_items
from pipeline.catalog.images import Small, UnusableImageError, encode, locate
from tests.catalog.shop import ingest, ingest_params, png, png_header, write_shop

BOUNDS = {"image_size": 64, "max_image_pixels": 50_000_000}


def saved(tmp_path, image: Image.Image, name: str, **options: object):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def opened(small: Small) -> Image.Image:
    return Image.open(io.BytesIO(small.content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "picture file is empty"),
        (b"<html>not found</html>", "not a picture"),
        (png(64, 64)[:-40], "picture is truncated or damaged"),
        (png_header(20_000, 3_000), "picture is above ingest.max_image_pixels"),
        (png_header(100_000, 100_000), "picture is above ingest.max_image_pixels"),  # beyond Pillow's own limit
        (png_header(20_000, 100), "picture is more than 100 times as long as wide"),
        (png_header(64, 64), "picture is truncated or damaged"),
    ],
)
def test_unusable_pictures(tmp_path, content, reason) -> None:
    (tmp_path / "p.png").write_bytes(content)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnusableImageError) as error:
        encode(tmp_path / "p.png", **BOUNDS)
    assert str(error.value) == reason
    assert limit == Image.MAX_IMAGE_PIXELS, "Pillow's global limit is back"


def test_truncated_jpeg(tmp_path) -> None:
    path = saved(tmp_path, Image.effect_noise((200, 200), 50), "p.jpg")
    path.write_bytes(path.read_bytes()[:3_000])
    with pytest.raises(UnusableImageError, match=r"^picture is truncated or damaged$"):
        encode(path, **BOUNDS)


def test_longest_side_is_bounded_and_small_pictures_stay(tmp_path) -> None:
    wide = saved(tmp_path, Image.new("RGB", (200, 50)), "wide.jpg")
    small = saved(tmp_path, Image.new("RGB", (20, 10)), "small.jpg")
    assert opened(encode(wide, **BOUNDS)).size == (64, 16)
    assert opened(encode(small, **BOUNDS)).size == (20, 10)
    assert (encode(wide, **BOUNDS).source_side, encode(small, **BOUNDS).source_side) == (200, 20)


def test_png_stays_png_and_everything_else_becomes_jpeg(tmp_path) -> None:
    picture = Image.new("RGB", (30, 30), "teal")
    formats = {
        name: opened(encode(saved(tmp_path, picture, name), **BOUNDS)).format for name in ("a.png", "a.gif", "a.jpg")
    }
    assert formats == {"a.png": "PNG", "a.gif": "JPEG", "a.jpg": "JPEG"}


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode) -> None:
    path = saved(tmp_path, Image.new(mode, (30, 30)), "p.tiff")
    assert opened(encode(path, **BOUNDS)).mode == "RGB"


def test_transparency_becomes_white(tmp_path) -> None:
    path = saved(tmp_path, Image.new("RGBA", (30, 30), (255, 0, 0, 0)), "p.png")
    assert opened(encode(path, **BOUNDS)).getpixel((15, 15)) == (255, 255, 255)


def test_exif_turns_are_applied(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    path = saved(tmp_path, Image.new("RGB", (40, 20)), "p.jpg", exif=exif)
    assert opened(encode(path, **BOUNDS)).size == (20, 40)


def test_equal_files_give_equal_bytes(tmp_path) -> None:
    path = saved(tmp_path, Image.effect_noise((200, 150), 50).convert("RGB"), "p.jpg")
    assert encode(path, **BOUNDS) == encode(path, **BOUNDS)


def test_pictures_are_found_in_images_or_by_path_but_never_outside(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (tmp_path / "secret.png").write_bytes(png())
    assert locate(root, "a.png") == locate(root, "images/a.png") == root / "images" / "a.png"
    with pytest.raises(UnusableImageError, match=r"^picture path is absolute, "):
        locate(root, str(tmp_path / "secret.png"))
    with pytest.raises(UnusableImageError, match=r"^picture file not found$"):
        locate(root, "a" * 5_000)
    with pytest.raises(UnusableImageError, match=r"^picture lies outside the raw folder$"):
        locate(root, "../secret.png")


def test_an_item_goes_on_without_its_unusable_picture(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "images" / "a.png").write_bytes(b"")
    artifact = ingest(ingest_params(root, max_quarantine=0.5), tmp_path / "catalog")
    items = open_items(artifact)
    assert items.item_ids == ["a", "b", "c"]
    assert items.has_image.tolist() == [False, True, False]
    assert items.image(0) is None
