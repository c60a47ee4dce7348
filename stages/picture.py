"""Picture: opening encoded pictures, for all stages that decode them.

The picture is what a viewer shows: EXIF rotation is applied, transparency lies on white, 16 bits keep
their upper 8, and the first picture of an animation or of several pages is taken. Numbers that viewers show
differently (TIFF of 32 bits, integers or floats) are refused, since it is unknown which of them is white. Colour
profiles are not applied: models are trained on pixels as they are stored.

It uses only Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from stages.errors import BadInput
from stages.stage import Array

__all__ = ["FORMATS", "as_shown", "decoded"]

try:
    from PIL.AvifImagePlugin import SUPPORTED as _HAS_AVIF
except ImportError:  # Pillow before 11.3
    _HAS_AVIF = False

#: The formats that are decoded. Pillow knows more, among them formats that start other programs (EPS, PDF).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(("AVIF",) if _HAS_AVIF else ()))

#: Raw mode of Pillow (bits for grey in a PNG) -> the value of one step when the grey is spread to 8 bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}

#: Tags of TIFF 6.0, page 29 and 37, and a value of the latter.
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

Made = TypeVar("Made")


def decoded(file: Array, max_pixels: int, make: Callable[[Image.Image], Made]) -> Made:
    """The result of `make` for an encoded picture.

    Args:
        file: the encoded file, uint8.
        max_pixels: largest picture accepted, read from the file's header before anything is decoded.
        make: gets the picture before a pixel is decoded, and may let Pillow's exceptions pass.

    Raises:
        BadInput: the file is not a picture, is damaged, or is too large.
    """
    image = _opened(file)
    width, height = image.size
    if width * height > max_pixels:
        raise BadInput(
            f"image of {width}x{height} pixels is larger than the {max_pixels} pixels of option max_pixels"
        )
    try:
        return make(image)
    except BadInput as error:
        raise BadInput(f"{image.format} image of {width}x{height} pixels: {error}") from error
    except Exception as error:
        # Decoders raise many classes of exceptions; here the cause can only be these bytes.
        raise BadInput(f"{image.format} image of {width}x{height} pixels is damaged: {error}") from error


def as_shown(image: Image.Image, mode: str) -> Image.Image:
    """The picture as a viewer shows it, in Pillow's mode "RGB" or "L".

    If EXIF asks for it, the picture itself is rotated; it must not be used any more.

    Raises:
        BadInput: its numbers are of a kind that viewers show differently.
    """
    # In place: otherwise a picture that needs no rotation is copied.
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = _from_16_bits(image)
    elif image.mode in ("I", "F"):
        raise BadInput(f"expected 8 or 16 bits for each channel, found 32 (Pillow's mode {image.mode!r})")
    elif image.has_transparency_data:
        # The colour under transparent pixels can be anything, often black; and people do not see what is
        # hidden there or drawn only in the alpha channel.
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image if image.mode == mode else image.convert(mode)


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8 bits; Pillow's own conversion would clip at 255 and leave a white page."""
    grey = np.asarray(image)
    surplus = 8
    if isinstance(image, TiffImageFile):
        # Pillow leaves both as they are in the file: 12 bits, and pictures whose white is 0.
        surplus = 4 if image.tag_v2.get(_BITS) == (12,) else 8
        if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = (256 << surplus) - 1 - grey.astype(np.int32)
    upper = (grey >> surplus).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        upper[grey == clear] = 255
    return Image.fromarray(upper)


def _settle_transparency(image: Image.Image) -> None:
    """Convert a PNG's transparent colour to the bits to which Pillow converts the pixels.

    Otherwise no pixel equals it: Pillow gives it as in the file, with 2, 4 or 16 bits. Grey of 16 bits stays as it is.
    """
    clear = image.info.get("transparency")
    if clear is None or not isinstance(image, PngImageFile) or not image.tile:
        return
    raw = str(image.tile[0][3])
    if isinstance(clear, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif isinstance(clear, int) and raw in _GREY_STEPS:
        image.info["transparency"] = clear * _GREY_STEPS[raw]


def _opened(file: Array) -> Image.Image:
    """Read the header; no pixel is decoded yet."""
    if not file.size:
        raise BadInput("image file is empty (0 bytes)")
    # Pillow's own, fixed limit would refuse first, with a shorter message, or print a warning. It is a
    # global that other code relies on, so it is restored at once.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(io.BytesIO(file.tobytes()), formats=FORMATS)
        _settle_transparency(image)
        return image
    except UnidentifiedImageError:
        raise BadInput(
            f"not an image of a known format ({', '.join(FORMATS)}): "
            f"{file.size} bytes that begin with {file[:16].tobytes()!r}"
        ) from None
    except Exception as error:
        raise BadInput(f"image header is damaged: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
