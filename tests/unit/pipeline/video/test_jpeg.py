"""A frame as a picture for people."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.video.jpeg import jpeg_of


def test_a_jpeg_shows_what_the_frame_shows() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = (255, 0, 0)
    with Image.open(io.BytesIO(jpeg_of(pixels))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 16))
        red = picture.getpixel((28, 8))
    assert isinstance(red, tuple)
    assert red[0] > 200 > 60 > red[2]
