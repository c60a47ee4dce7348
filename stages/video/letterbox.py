"""Letterbox: from a frame of any size to the square that a detector takes, in its proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from stages.errors import BadOption
from stages.spec import TensorSpec
from stages.stage import Array, Batch
from stages.video.frame import frame_of
from stages.video.options import box_of, mapping_of

__all__ = ["Letterbox"]

_WHOLE = (0.0, 0.0, 1.0, 1.0)

#: Pillow first shrinks by a whole number, to at least this many times the size, and then filters. A frame of 1920x1080
#: took 6.5 ms with it and 40 without (416x234); one of 640x360 is not shrunk by it.
_REDUCING_GAP = 1.5


class Letterbox:
    """Scales frames to a square, at its upper left; the rest is black. The proportions stay.

    Input `image`: RGB, uint8 of shape (H, W, 3).
    Output `image`: RGB, uint8 of shape (size, size, 3).
    Output `place`: float32 of shape (4,), where the square lies in the frame: y, x, height and width, in fractions of
    the frame. A point (y, x) of the square, in fractions of it, is (place[0] + y * place[2], place[1] + x * place[3])
    of the frame.

    A frame of that size is not changed. A frame without pixels fails with BadInput.

    Args:
        size: height and width of the square, in pixels.
        max_height, max_width: of the largest frame, in pixels.
        regions: {camera: [y_min, x_min, y_max, x_max]}, in fractions of the frame: the part that is looked at. Small
            things become larger in the square. Requests are called by the camera's name (stages.video.frame).
    """

    def __init__(
        self,
        size: int = 416,
        max_height: int = 1080,
        max_width: int = 1920,
        regions: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        if size < 1:
            raise BadOption(f"size {size}: expected at least 1")
        self._size = size
        self._regions = {
            camera: box_of(f"regions.{camera}", region) for camera, region in mapping_of("regions", regions).items()
        }
        self.ragged = True
        self.inputs = (TensorSpec("image", "uint8", ("H", "W", 3), {"H": max_height, "W": max_width}),)
        self.outputs = (TensorSpec("image", "uint8", (size, size, 3)), TensorSpec("place", "float32", (4,)))

    def process(self, batch: Batch) -> None:
        for row, frame in enumerate(batch.rows("image")):
            height, width, _ = frame.shape
            if not frame.size:
                batch.fail(row, f"a frame without pixels: {height}x{width}")
                continue
            region = self._region(batch.requests[row].name) if self._regions else _WHOLE
            top, left = int(region[0] * height), int(region[1] * width)
            # At least a pixel remains of any frame.
            bottom, right = max(top + 1, round(region[2] * height)), max(left + 1, round(region[3] * width))
            scaled = self._fill(frame[top:bottom, left:right], batch.out(row, "image"))
            batch.out(row, "place")[...] = (
                top / height,
                left / width,
                (bottom - top) / height * self._size / scaled[0],
                (right - left) / width * self._size / scaled[1],
            )

    def _region(self, name: str) -> tuple[float, float, float, float]:
        return self._regions.get(frame_of(name).camera, _WHOLE)

    def _fill(self, part: Array, square: Array) -> tuple[int, int]:
        """Draw a part of a frame into the square; its height and width there, in pixels."""
        height, width = part.shape[:2]
        ratio = self._size / max(height, width)
        down, across = max(1, round(height * ratio)), max(1, round(width * ratio))
        if (down, across) == (height, width):
            square[:down, :across] = part
        else:
            picture = Image.fromarray(np.ascontiguousarray(part))
            square[:down, :across] = picture.resize(
                (across, down), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP
            )
        square[down:] = 0
        square[:, across:] = 0
        return down, across
