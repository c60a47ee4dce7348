"""CropText: the glue between a text detector and a text recogniser."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from stages.errors import BadOption
from stages.ocr.boxes import reading_order, text_boxes
from stages.ocr.pixels import normalise
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["CropText"]

HEIGHT = 48
_CHANNELS = 3
#: Boxes at least this much taller than wide hold a line that runs upwards or downwards (PaddleOCR's figure).
_UPRIGHT = 1.5


class CropText:
    """Find the boxes of text, and cut each out of the page as the recogniser takes it: one child a box.

    Input `page`: uint8 of shape (H, W, 3), RGB. Input `probability`: float32 of shape (1, h, w), of the same page.
    Input `size`: int32 of shape (2,), width and height of the picture that `page` was made from.
    Output `crops`: many, in reading order, perhaps none; float32 of shape (3, 48, W): BGR, x / 127.5 - 1, as wide
    as the box's proportions ask for, then zeros up to a multiple of `step`. What would be wider than `max_width`
    is pressed together. Boxes at least 1.5 times as tall as wide are turned by 90 degrees, their right side up.
    Output `boxes`: JSON, in the same order: [[x, y], [x, y], [x, y], [x, y]], clockwise from the upper left
    corner, in whole pixels of the picture of `size`.

    A page with more boxes or wider ones than there is room for fails with BadInput.

    Args:
        max_side: the longest side that a page has; `max_side` of stages.ocr.page.
        detect_side: the longest side that a map has; `detect_side` of stages.ocr.page.
        threshold, score, grow: as in `stages.ocr.boxes.text_boxes`; the defaults of the first two are PaddleOCR's
            (`det_db_thresh`, `det_db_box_thresh`). It grows by 1.5; with 2.0 the recogniser loses fewer spaces.
        max_boxes: most boxes of a page.
        max_bytes: most bytes that all crops of a page take together; 576 for each pixel of their widths.
        max_width: widest crop, in pixels. What is pressed to less than two thirds loses letters.
        min_width: narrower crops are padded to it.
        step: widths are multiples of it. Crops of equal width share a batch.

    Raises:
        BadOption: the widths contradict each other.
    """

    def __init__(
        self,
        max_side: int = 1600,
        detect_side: int = 960,
        threshold: float = 0.3,
        score: float = 0.6,
        grow: float = 2.0,
        max_boxes: int = 500,
        max_bytes: int = 16 << 20,
        max_width: int = 1600,
        min_width: int = 64,
        step: int = 32,
    ) -> None:
        if step < 1 or max_width % step or min_width % step or not step <= min_width <= max_width:
            raise BadOption(
                f"min_width {min_width}, max_width {max_width}, step {step}: expected multiples of the step, "
                "min_width <= max_width"
            )
        self._threshold, self._score, self._grow = threshold, score, grow
        self._max_boxes, self._max_bytes = max_boxes, max_bytes
        self._max_width, self._min_width, self._step = max_width, min_width, step
        self.ragged = True
        self.inputs = (
            TensorSpec("page", "uint8", ("H", "W", _CHANNELS), {"H": max_side, "W": max_side}),
            TensorSpec("probability", "float32", (1, "h", "w"), {"h": detect_side, "w": detect_side}),
            TensorSpec("size", "int32", (2,)),
        )
        shape = (_CHANNELS, HEIGHT, "W")
        self.outputs = (
            TensorSpec("crops", "float32", shape, {"W": max_width}, many=max_boxes, many_bytes=max_bytes),
            # Four corners of two numbers of at most six digits, brackets and commas.
            TensorSpec.json("boxes", max_bytes=2 + 70 * max_boxes),
        )

    def process(self, batch: Batch) -> None:
        for row, (page, maps, size) in enumerate(
            zip(batch.rows("page"), batch.rows("probability"), batch.rows("size"))
        ):
            boxes, _ = text_boxes(maps[0], self._threshold, self._score, self._grow)
            # To the page: the detector saw all of it, stretched to whole multiples of 32.
            boxes = _moved(boxes, maps.shape[1:], page.shape[:2])
            boxes = boxes[reading_order(boxes)]
            shapes = [(_CHANNELS, HEIGHT, self._padded(self._width(box))) for box in boxes]
            if why := self._too_much(shapes):
                batch.fail(row, why)
                continue
            for box, out in zip(boxes, batch.out_many(row, "crops", shapes)):
                width = self._width(box)
                normalise(_upright(page, box, width), out[:, :, :width])
                out[:, :, width:] = 0
            in_file = _moved(boxes, page.shape[:2], (size[1], size[0]))
            batch.write(row, "boxes", np.rint(in_file).astype(int).tolist())

    def _width(self, box: Array) -> int:
        """Columns of the crop that show the box."""
        width, height = _sides(box)
        if height >= _UPRIGHT * width:
            width, height = height, width
        return max(1, min(math.ceil(HEIGHT * width / height), self._max_width))

    def _padded(self, width: int) -> int:
        return max(self._min_width, -(-width // self._step) * self._step)

    def _too_much(self, shapes: list[tuple[int, int, int]]) -> str | None:
        if len(shapes) > self._max_boxes:
            return f"the page has {len(shapes)} boxes of text, expected at most max_boxes {self._max_boxes}"
        nbytes = sum(4 * math.prod(shape) for shape in shapes)
        if nbytes > self._max_bytes:
            return (
                f"the {len(shapes)} boxes of text on the page are {nbytes} bytes as crops, "
                f"expected at most max_bytes {self._max_bytes}"
            )
        return None


def _moved(boxes: Array, shape: tuple[int, ...], to: tuple[int, ...]) -> Array:
    """Boxes in pixels of an array of `shape` (h, w), as pixels of one of shape `to` that shows the same; clipped."""
    scale = np.array([to[1] / shape[1], to[0] / shape[0]])
    moved: Array = np.clip(boxes * scale, 0, [to[1], to[0]])
    return moved


def _sides(box: Array) -> tuple[float, float]:
    """The longer ones of the sides along the text and across it, in pixels."""
    top, right, bottom, left = np.linalg.norm(np.roll(box, -1, axis=0) - box, axis=1)
    return max(top, bottom, 1.0), max(left, right, 1.0)


def _upright(page: Array, box: Array, width: int) -> Array:
    """What lies in the box, its text upright: uint8 of shape (48, width, 3)."""
    across, down = _sides(box)
    if down >= _UPRIGHT * across:
        # Turned against the clock: what was the right side is up.
        box, across, down = np.roll(box, -1, axis=0), down, across
    left, top = np.floor(box.min(axis=0)).astype(int)
    right, bottom = np.ceil(box.max(axis=0)).astype(int)
    # Pillow unpacks what it is given, so it is given no more than the box.
    part = Image.fromarray(page[top : max(bottom, top + 1), left : max(right, left + 1)])
    quad = box - (left, top)
    if (quad[0] == quad.min(axis=0)).all() and (quad[2] == quad.max(axis=0)).all() and quad[0, 1] == quad[1, 1]:
        return np.asarray(part.resize((width, HEIGHT), Image.Resampling.BILINEAR, (*quad[0], *quad[2])))
    # At the page's own resolution first: a transform in Pillow is not antialiased, its resize is.
    corners = quad[[0, 3, 2, 1]].ravel().tolist()
    straight = part.transform(
        (math.ceil(across), math.ceil(down)), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC
    )
    return np.asarray(straight.resize((width, HEIGHT), Image.Resampling.BILINEAR))
