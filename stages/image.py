"""DecodeResize: an encoded picture to the tensor that a vision model takes.

It uses only Pillow, for resizing too: most reference implementations preprocess with Pillow's
antialiasing filters, and the resize of another library changes a model's scores.

The picture is what a viewer shows; `stages.picture` has the details.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from stages.errors import BadInput, BadOption
from stages.picture import as_shown, decoded
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["DecodeResize"]

_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


class DecodeResize:
    """Decode, resize, take the centre, normalise.

        file -> pixels -> resized to `resize` -> centre `size` x `size` -> (x - mean) / std -> layout

    Input `image`: the encoded file, uint8 of shape (bytes,), at most `max_bytes`.
    Output `image`: `dtype` of shape (C, size, size) or (size, size, C); C is 3, or 1 for "gray".

    Args:
        size: height and width of the output, in pixels.
        resize: before the centre is taken, the short side ("crop") or both sides ("stretch") are
            scaled to this many pixels. Default: `size`, so that no more than necessary is cut off.
        mode: "crop" keeps the aspect ratio, "stretch" makes a square of the whole picture.
        color: order of the channels: "rgb", "bgr" or "gray".
        mean, std: one number, or one for each channel in the order of `color`, in units of 0..255.
        dtype: "float32", or "uint8" for a model that normalises by itself.
        layout: "chw" or "hwc".
        interpolation: "nearest", "bilinear", "bicubic", "lanczos" or "area".
        draft: let the JPEG decoder shrink by 2, 4 or 8 while decoding. It halves the time for a photograph of
            1920x1080 and changes pixels a little.
        max_bytes: largest file accepted, in bytes.
        max_pixels: largest picture accepted, width times height, read from the file's header before anything is
            decoded.

    Raises:
        BadOption: an option is not one of the above.
    """

    #: A picture keeps a core busy for milliseconds, often longer than the model does.
    scales_with_cores = True

    def __init__(
        self,
        size: int = 224,
        resize: int | None = None,
        mode: str = "crop",
        color: str = "rgb",
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        dtype: str = "float32",
        layout: str = "chw",
        interpolation: str = "bilinear",
        draft: bool = False,
        max_bytes: int = 16 << 20,
        max_pixels: int = 50_000_000,
    ) -> None:
        _check("mode", mode, ("crop", "stretch"))
        _check("color", color, _MODES)
        _check("dtype", dtype, ("float32", "uint8"))
        _check("layout", layout, ("chw", "hwc"))
        _check("interpolation", interpolation, _FILTERS)
        resize = size if resize is None else resize
        if not 1 <= size <= resize:
            raise BadOption(f"size {size}, resize {resize}: expected 1 <= size <= resize, for the centre is cut out")
        self._size, self._resize, self._stretch, self._draft = size, resize, mode == "stretch", draft
        self._mode, self._reverse, self._chw = _MODES[color], color == "bgr", layout == "chw"
        self._filter = _FILTERS[interpolation]
        self._max_pixels = max_pixels
        channels = len(self._mode)
        self._mean = _per_channel("mean", mean, channels)
        self._std = _per_channel("std", std, channels)
        if not self._std.all():
            raise BadOption(f"std {std!r}: expected numbers other than 0, for pixels are divided by it")
        self._shift, self._scale = bool(self._mean.any()), bool((self._std != 1).any())
        if dtype == "uint8" and (self._shift or self._scale):
            raise BadOption("mean and std need dtype float32; uint8 passes the pixels as they are")
        shape = (channels, size, size) if self._chw else (size, size, channels)
        self.ragged = True
        self.inputs = (TensorSpec("image", "uint8", ("bytes",), {"bytes": max_bytes}),)
        self.outputs = (TensorSpec("image", dtype, shape),)

    def process(self, batch: Batch) -> None:
        for row, file in enumerate(batch.rows("image")):
            try:
                pixels = decoded(file, self._max_pixels, self._pixels)
            except BadInput as error:
                batch.fail(row, error)
                continue
            out = batch.out(row, "image")
            self._normalise(pixels, np.moveaxis(out, 0, -1) if self._chw else out)

    def _pixels(self, image: Image.Image) -> Array:
        """The centre of the resized picture: uint8 of shape (size, size, channels)."""
        if self._draft:
            # At twice the target size, the filter still has enough pixels for antialiasing.
            image.draft(self._mode, (2 * self._resize, 2 * self._resize))
        image.load()
        shown = as_shown(image, self._mode)
        return np.asarray(shown.resize((self._size, self._size), self._filter, self._centre(shown.size))).reshape(
            self._size, self._size, len(self._mode)
        )

    def _centre(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of the picture that becomes the output, in pixels of the picture: left, top, right, bottom.

        Resizing only this part gives the same pixels as resizing everything and then cutting,
        and a strip of 50000x10 pixels never becomes one of 1280000x256.
        """
        width, height = size
        kept = self._size / self._resize
        if self._stretch:
            across, down = width * kept, height * kept
        else:
            across = down = min(width, height) * kept
        left, top = (width - across) / 2, (height - down) / 2
        return left, top, left + across, top + down

    def _normalise(self, pixels: Array, out: Array) -> None:
        source = pixels[..., ::-1] if self._reverse else pixels
        if self._shift:
            np.subtract(source, self._mean, out=out)
        else:
            out[...] = source
        if self._scale:
            np.divide(out, self._std, out=out)


def _check(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise BadOption(f"{option} {value!r}: expected one of {', '.join(known)}")


def _per_channel(option: str, value: float | Sequence[float], channels: int) -> Array:
    with np.errstate(over="ignore"):
        numbers = np.asarray(value, np.float32)
    if numbers.shape not in ((), (channels,)) or not np.isfinite(numbers).all():
        raise BadOption(f"{option} {value!r}: expected one number, or {channels}, one for each channel")
    return numbers
