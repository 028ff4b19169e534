"""The demo world's pictures: one flat shape on a light ground, drawn so that it survives a 56 x 56 view.

Promise: a picture shows colour, shape and finish, and depends on nothing else but its random stream; the same
arguments give the same PNG bytes.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

SIZE = 112  # pixels; twice what the tiny vision tower sees
OVERSAMPLING = 2  # drawn larger and averaged down: soft edges

COLOURS = {  # far apart compared with the jitter
    "red": (212, 48, 44),
    "yellow": (232, 196, 36),
    "green": (44, 158, 72),
    "blue": (48, 92, 208),
    "purple": (148, 58, 172),
    "black": (36, 36, 40),
}
SHAPES = ("circle", "square", "triangle", "cross")
FINISHES = ("plain", "striped")

COLOUR_JITTER = 18  # per channel, 0-255
GROUND = (195, 250)  # range of each channel of the background
CENTRE_JITTER = 6  # pixels
RADIUS = (34, 44)  # pixels
STRIPE_PERIOD, STRIPE_WIDTH = 16, 5  # pixels


def draw_picture(colour: str, shape: str, finish: str, rng: np.random.Generator) -> bytes:
    """One item's picture as PNG bytes, `SIZE` x `SIZE` RGB."""
    ground = _rgb(rng.integers(GROUND[0], GROUND[1] + 1, size=3))
    jitter = rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, size=3)
    fill = _rgb(np.clip(np.array(COLOURS[colour]) + jitter, 0, 255))
    x, y = SIZE / 2 + rng.integers(-CENTRE_JITTER, CENTRE_JITTER + 1, size=2)
    radius = float(rng.integers(RADIUS[0], RADIUS[1] + 1))
    phase = int(rng.integers(STRIPE_PERIOD))  # drawn for plain items too: the finish must not shift the stream

    large = SIZE * OVERSAMPLING
    surface = Image.new("RGB", (large, large), fill)
    if finish == "striped":
        pen = ImageDraw.Draw(surface)
        for top in range(phase - STRIPE_PERIOD, SIZE, STRIPE_PERIOD):
            pen.rectangle((0, top * OVERSAMPLING, large, (top + STRIPE_WIDTH) * OVERSAMPLING - 1), fill=(255, 255, 255))
    outline = Image.new("L", (large, large), 0)
    _outline(ImageDraw.Draw(outline), shape, x * OVERSAMPLING, y * OVERSAMPLING, radius * OVERSAMPLING)
    picture = Image.composite(surface, Image.new("RGB", (large, large), ground), outline).reduce(OVERSAMPLING)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _outline(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float) -> None:
    """Fill the shape's area, centred at (x, y), within about this radius."""
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif shape == "square":
        half = radius * 0.85
        pen.rectangle((x - half, y - half, x + half, y + half), fill=255)
    elif shape == "triangle":
        # larger and lower than the circle's, so that it covers about as much ground, in the middle
        apex_base_base = (-math.pi / 2, math.pi / 6, 5 * math.pi / 6)
        reach, middle = 1.2 * radius, y + 0.2 * radius
        pen.polygon([(x + reach * math.cos(a), middle + reach * math.sin(a)) for a in apex_base_base], fill=255)
    elif shape == "cross":
        arm = radius * 0.3
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=255)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=255)


def _rgb(channels: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in channels)
    return red, green, blue
