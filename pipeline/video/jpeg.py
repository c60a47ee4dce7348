"""Jpeg: a frame as a picture for people. Pure."""

from __future__ import annotations

import io
from typing import Any

from numpy.typing import NDArray
from PIL import Image

__all__ = ["jpeg_of"]

_QUALITY = 85


def jpeg_of(pixels: NDArray[Any]) -> bytes:
    """A JPEG.

    Args:
        pixels: uint8 [height, width, 3], RGB.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
