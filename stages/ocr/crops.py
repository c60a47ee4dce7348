"""CropBoxes: from each box of text on a page to the input of a text recogniser."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from shm.layout import round_up
from stages.errors import BadOption
from stages.ocr.documents import boxes_spec
from stages.ocr.pixels import normalise
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["CropBoxes"]

_HEIGHT = 48
_CHANNELS = 3
#: Boxes at least this much taller than wide hold a line that runs upwards or downwards (PaddleOCR's figure).
_UPRIGHT = 1.5


class CropBoxes:
    """Cuts each box of text out of the page, in the form that the recogniser takes: one child for each box.

    Input `page`: uint8 of shape (H, W, 3), RGB.
    Input `boxes`: JSON, as from `stages.ocr.boxes`, in pixels of the picture from which `page` was made.
    Input `size`: int32 of shape (2,), width and height of that picture.
    Output `crops`: many, one for each box in their order; float32 of shape (3, 48, W): BGR, x / 127.5 - 1, as wide as
    the box's proportions require, then zeros up to a multiple of `step`. A crop that would be wider than `max_width` is
    compressed. Boxes at least 1.5 times as tall as wide are turned by 90 degrees, their right side up.

    If the crops of a page take more than `max_bytes`, or if a box does not have four corners or reaches beyond the
    picture by more than a pixel, the request fails with BadInput.

    Args:
        max_side: the longest side of a page, in pixels; `max_side` of stages.ocr.page.
        max_boxes: the most boxes of a page.
        max_bytes: the most bytes of all crops of a page together; a crop takes 576 for each pixel of its width.
        max_width: widest crop, in pixels. Text that is compressed to less than two thirds loses letters.
        min_width: narrower crops are padded to this many pixels.
        step: widths are multiples of this many pixels. Crops of equal width share a batch.

    Raises:
        BadOption: the widths contradict each other.
    """

    def __init__(
        self,
        max_side: int = 1600,
        max_boxes: int = 500,
        max_bytes: int = 32 << 20,
        max_width: int = 1600,
        min_width: int = 64,
        step: int = 32,
    ) -> None:
        if step < 1 or max_width % step or min_width % step or not step <= min_width <= max_width:
            raise BadOption(
                f"min_width {min_width}, max_width {max_width}, step {step}: expected multiples of the step, "
                "min_width <= max_width"
            )
        self._max_bytes = max_bytes
        self._max_width, self._min_width, self._step = max_width, min_width, step
        self.ragged = True
        self.inputs = (
            TensorSpec("page", "uint8", ("H", "W", _CHANNELS), {"H": max_side, "W": max_side}),
            boxes_spec("boxes", max_boxes),
            TensorSpec("size", "int32", (2,)),
        )
        shape = (_CHANNELS, _HEIGHT, "W")
        self.outputs = (
            TensorSpec("crops", "float32", shape, {"W": max_width}, many=max_boxes, many_bytes=max_bytes),
        )

    def process(self, batch: Batch) -> None:
        for row, (page, size) in enumerate(zip(batch.rows("page"), batch.rows("size"))):
            boxes = np.array(batch.document(row, "boxes"), np.float64)
            if boxes.size == 0:
                boxes = boxes.reshape(0, 4, 2)
            if boxes.shape[1:] != (4, 2):
                batch.fail(row, f"expected boxes of four corners [x, y], found an array of shape {list(boxes.shape)}")
                continue
            edge = np.array([page.shape[1], page.shape[0]])
            boxes *= edge / size
            within = (boxes >= -1) & (boxes <= edge + 1)  # false for NaN too
            if not within.all():
                # An index below 0 would count from the other side of the page.
                number = int(np.argmin(within.all(axis=(1, 2))))
                corners = (boxes[number] * size / edge).round(1).tolist()
                batch.fail(row, f"box {number} reaches beyond the picture of {size[0]}x{size[1]} pixels: {corners}")
                continue
            np.clip(boxes, 0, edge, out=boxes)
            widths = [self._width(box) for box in boxes]
            shapes = [(_CHANNELS, _HEIGHT, self._padded(width)) for width in widths]
            nbytes = sum(4 * math.prod(shape) for shape in shapes)
            if nbytes > self._max_bytes:
                batch.fail(
                    row,
                    f"the crops of {len(boxes)} boxes of text take {nbytes} bytes, "
                    f"expected at most {self._max_bytes} (option max_bytes)",
                )
                continue
            for box, width, out in zip(boxes, widths, batch.out_many(row, "crops", shapes)):
                normalise(_upright(page, box, width), out[:, :, :width])
                out[:, :, width:] = 0

    def _width(self, box: Array) -> int:
        """Columns of the crop that show the box."""
        width, height = _sides(box)
        if height >= _UPRIGHT * width:
            width, height = height, width
        return max(1, min(math.ceil(_HEIGHT * width / height), self._max_width))

    def _padded(self, width: int) -> int:
        return max(self._min_width, round_up(width, self._step))


def _sides(box: Array) -> tuple[float, float]:
    """The longer ones of the sides along the text and across it, in pixels."""
    top, right, bottom, left = np.linalg.norm(np.roll(box, -1, axis=0) - box, axis=1)
    return max(top, bottom, 1.0), max(left, right, 1.0)


def _upright(page: Array, box: Array, width: int) -> Array:
    """The content of the box, its text upright: uint8 of shape (48, width, 3)."""
    across, down = _sides(box)
    if down >= _UPRIGHT * across:
        # Turned counterclockwise: the right side becomes the top.
        box, across, down = np.roll(box, -1, axis=0), down, across
    left, top = np.floor(box.min(axis=0)).astype(int)
    right, bottom = np.ceil(box.max(axis=0)).astype(int)
    # Pillow unpacks everything that it gets, so it gets only the box.
    part = Image.fromarray(page[top:bottom, left:right])
    quad = box - (left, top)
    if (quad[0] == quad.min(axis=0)).all() and (quad[2] == quad.max(axis=0)).all() and quad[0, 1] == quad[1, 1]:
        return np.asarray(part.resize((width, _HEIGHT), Image.Resampling.BILINEAR, (*quad[0], *quad[2])))
    # First at the page's own resolution: Pillow's transform is not antialiased, its resize is.
    corners = quad[[0, 3, 2, 1]].ravel().tolist()
    straight = part.transform(
        (math.ceil(across), math.ceil(down)), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC
    )
    return np.asarray(straight.resize((width, _HEIGHT), Image.Resampling.BILINEAR))
