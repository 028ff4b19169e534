"""The pictures: what they show survives a 56 x 56 view, and the same stream draws the same bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.world.pictures import COLOURS, FINISHES, SHAPES, SIZE, draw_picture


def pixels(png: bytes, size: int = 56) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and picture.mode == "RGB" and picture.size == (SIZE, SIZE)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), dtype=float)


def test_same_stream_same_bytes() -> None:
    once, again, other = (draw_picture("red", "circle", "striped", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("finish", FINISHES)
def test_the_dominant_colour_is_the_named_one(colour: str, shape: str, finish: str) -> None:
    """Of the pixels unlike the ground and unlike stripes, most are nearest to the colour the caption names."""
    names = list(COLOURS)
    for seed in range(5):
        image = pixels(draw_picture(colour, shape, finish, np.random.default_rng(seed))).reshape(-1, 3)
        ink = image[image.min(axis=1) < 150]
        distance = np.linalg.norm(ink[:, None] - np.array(list(COLOURS.values())), axis=-1)
        nearest = np.bincount(distance.argmin(axis=1), minlength=len(names))
        assert names[int(nearest.argmax())] == colour


def test_shapes_differ_by_more_than_their_jitter() -> None:
    """Outlines, each scaled to its own box, tell the shapes apart by nearest mean."""

    def outline(shape: str, seed: int) -> np.ndarray:
        ink = pixels(draw_picture("black", shape, "plain", np.random.default_rng(seed))).max(axis=2) < 130
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        box = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        return np.asarray(box.resize((16, 16)), dtype=float)

    means = np.stack([np.mean([outline(shape, seed) for seed in range(10)], axis=0) for shape in SHAPES])
    for index, shape in enumerate(SHAPES):
        for seed in range(10, 20):
            assert np.abs(means - outline(shape, seed)).sum(axis=(1, 2)).argmin() == index


def test_striped_shapes_hold_white_and_plain_ones_do_not() -> None:
    for shape in SHAPES:
        for seed in range(5):
            centre = slice(SIZE // 2 - 10, SIZE // 2 + 10)
            white = {
                finish: (
                    pixels(draw_picture("blue", shape, finish, np.random.default_rng(seed)), SIZE)[centre, 56] > 250
                )
                .all(axis=1)
                .any()
                for finish in FINISHES
            }
            assert white == {"plain": False, "striped": True}


def test_the_shape_stays_inside_the_picture() -> None:
    for shape in SHAPES:
        for seed in range(30):
            image = pixels(draw_picture("black", shape, "plain", np.random.default_rng(seed)), SIZE)
            frame = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
            assert frame.min() > 190
