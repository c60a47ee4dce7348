"""Opening encoded pictures: what the stages that decode have in common.

What counts as the picture is what a viewer shows: EXIF rotation is applied, transparency lies on
white, 16-bit grey keeps its upper 8 bits, and of an animation the first frame is taken.

It talks to Pillow alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.errors import BadInput
from stages.stage import Array

__all__ = ["FORMATS", "as_shown", "decoded"]

#: What is decoded. Pillow knows more, among them formats that start other programs (EPS, PDF).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

Made = TypeVar("Made")


def decoded(file: Array, max_pixels: int, make: Callable[[Image.Image], Made]) -> Made:
    """What `make` makes of an encoded picture.

    Args:
        file: the encoded file, uint8.
        max_pixels: largest picture accepted, read from the file's header before anything is decoded.
        make: is given the picture before a pixel is decoded, and may raise whatever Pillow raises.

    Raises:
        BadInput: it is no picture, damaged, or too large.
    """
    image = _opened(file)
    width, height = image.size
    if width * height > max_pixels:
        raise BadInput(
            f"image of {width}x{height} pixels is larger than the {max_pixels} pixels of option max_pixels"
        )
    try:
        return make(image)
    except Exception as error:
        # Decoders raise whatever their parser stumbled over; here it can only be about these bytes.
        raise BadInput(f"{image.format} image of {width}x{height} pixels is damaged: {error}") from error


def as_shown(image: Image.Image, mode: str) -> Image.Image:
    """The picture as a viewer shows it, in Pillow's mode "RGB" or "L"."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 and leave a white page.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        # What lies under transparent pixels is anything, often black; and what is hidden there, or drawn
        # in the alpha channel alone, is not what people see.
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image if image.mode == mode else image.convert(mode)


def _opened(file: Array) -> Image.Image:
    """Read the header; no pixel is decoded yet."""
    if not file.size:
        raise BadInput("image file is empty (0 bytes)")
    # Pillow's own, fixed limit would refuse first, with less to say, or print a warning. It is a global
    # that other code relies on: put back at once.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(file.tobytes()), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadInput(
            f"not an image of a known format ({', '.join(FORMATS)}): "
            f"{file.size} bytes that begin with {file[:16].tobytes()!r}"
        ) from None
    except Exception as error:
        raise BadInput(f"image header is damaged: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
