"""DecodePage: from an encoded picture to a page of pixels and the input of a text detector."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.errors import BadInput, BadOption
from stages.ocr.pixels import normalise
from stages.picture import as_shown, decoded
from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["DecodePage"]

#: Height and width of the detector's input are multiples of this: the model halves them five times.
_MULTIPLE = 32


class DecodePage:
    """Decodes a page, limits its size, and scales it for the detector.

    Input `image`: the encoded file, uint8 of shape (bytes,), at most `max_bytes`.
    Output `page`: RGB, uint8 of shape (H, W, 3), no side longer than `max_side`: lines are cut out of it.
    Output `scaled`: float32 of shape (3, h, w), BGR, x / 127.5 - 1; the whole page, h and w multiples of 32 of at
    most `detect_side`. It is not padded, so h / H and w / W alone convert between places on it and on the page.
    Output `size`: int32 of shape (2,), width and height of the picture as a viewer shows it, rotated as EXIF says, for
    boxes in its pixels.

    Args:
        max_side: longest side in pixels; larger pages are scaled down and keep their proportions.
        detect_side: longest side of the detector's input, in pixels. Smaller is faster, and loses small print.
        min_side: pages whose shorter side has fewer pixels are enlarged for the detector, as far as `detect_side`
            allows: it then finds small text more reliably.
        max_bytes: largest file accepted, in bytes.
        max_pixels: largest picture accepted, width times height, read from the file's header before anything is
            decoded.

    Raises:
        BadOption: `detect_side` is not a multiple of 32, or a side is below 32.
    """

    def __init__(
        self,
        max_side: int = 1600,
        detect_side: int = 960,
        min_side: int = 736,
        max_bytes: int = 16 << 20,
        max_pixels: int = 50_000_000,
    ) -> None:
        if detect_side < _MULTIPLE or detect_side % _MULTIPLE:
            raise BadOption(f"detect_side {detect_side}: expected a multiple of {_MULTIPLE}")
        if max_side < _MULTIPLE:
            raise BadOption(f"max_side {max_side}: expected at least {_MULTIPLE}")
        self._max_side, self._detect_side, self._min_side = max_side, detect_side, min_side
        self._max_pixels = max_pixels
        self.ragged = True
        self.inputs = (TensorSpec("image", "uint8", ("bytes",), {"bytes": max_bytes}),)
        self.outputs = (
            TensorSpec("page", "uint8", ("H", "W", 3), {"H": max_side, "W": max_side}),
            TensorSpec("scaled", "float32", (3, "h", "w"), {"h": detect_side, "w": detect_side}),
            TensorSpec("size", "int32", (2,)),
        )

    def process(self, batch: Batch) -> None:
        for row, file in enumerate(batch.rows("image")):
            try:
                picture = decoded(file, self._max_pixels, lambda image: as_shown(image, "RGB"))
            except BadInput as error:
                batch.fail(row, error)
                continue
            batch.out(row, "size")[...] = picture.size
            picture.thumbnail((self._max_side, self._max_side), Image.Resampling.BOX)
            batch.out(row, "page", (picture.height, picture.width, 3))[...] = picture
            width, height = self._scaled_size(*picture.size)
            scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
            normalise(np.asarray(scaled), batch.out(row, "scaled", (3, height, width)))

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the detector's input for a page."""
        scale = max(1.0, self._min_side / min(width, height))
        scale = min(scale, self._detect_side / max(width, height))
        return _to_multiple(width * scale), _to_multiple(height * scale)


def _to_multiple(side: float) -> int:
    # The nearest multiple, as in the model's training and in PaddleOCR; detect_side, a multiple, is never exceeded.
    return max(1, round(side / _MULTIPLE)) * _MULTIPLE
