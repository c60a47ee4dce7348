"""FindBoxes: from a text detector's probability map to the boxes of text on a page, in reading order."""

from __future__ import annotations

import numpy as np

from stages.ocr.documents import boxes_spec
from stages.ocr.regions import text_boxes
from stages.spec import TensorSpec
from stages.stage import Array, Batch

__all__ = ["FindBoxes", "reading_order"]


class FindBoxes:
    """Finds the boxes of text.

    Input `probability`: float32 of shape (1, h, w), how likely each pixel is the middle of text, for the whole picture.
    Input `size`: int32 of shape (2,), width and height of the picture.
    Output `boxes`: JSON, [[[x, y], [x, y], [x, y], [x, y]], ...]: in reading order, perhaps none; each clockwise from
    the upper left corner of its text, in whole pixels of the picture.

    If a page has more boxes than `max_boxes`, or if a map is not finite, the request fails with BadInput.

    Args:
        max_side: the longest side of a map, in pixels; `detect_side` of stages.ocr.page.
        threshold: a pixel is text if its probability is above this; the default is PaddleOCR's (`det_db_thresh`).
        score: a region counts if the mean over its pixels is at least this; PaddleOCR's `det_db_box_thresh`.
        grow: a rectangle grows on each side by area * grow / perimeter. PaddleOCR grows by 1.5; with 2.0 the
            recogniser loses fewer spaces.
        max_boxes: the most boxes of a page.
    """

    def __init__(
        self,
        max_side: int = 960,
        threshold: float = 0.3,
        score: float = 0.6,
        grow: float = 2.0,
        max_boxes: int = 500,
    ) -> None:
        self._threshold, self._score, self._grow, self._max_boxes = threshold, score, grow, max_boxes
        self.ragged = True
        self.inputs = (
            TensorSpec("probability", "float32", (1, "h", "w"), {"h": max_side, "w": max_side}),
            TensorSpec("size", "int32", (2,)),
        )
        self.outputs = (boxes_spec("boxes", max_boxes),)

    def process(self, batch: Batch) -> None:
        for row, (maps, size) in enumerate(zip(batch.rows("probability"), batch.rows("size"))):
            if not np.isfinite(maps.sum(dtype=np.float64)):
                # NaN is above no threshold: the page would be empty, without any error.
                batch.fail(row, "the detector's probabilities are not finite")
                continue
            boxes, _ = text_boxes(maps[0], self._threshold, self._score, self._grow)
            if len(boxes) > self._max_boxes:
                batch.fail(row, f"{len(boxes)} boxes of text, expected at most {self._max_boxes} (option max_boxes)")
                continue
            # The detector saw the whole picture, stretched to multiples of 32.
            _, height, width = maps.shape
            boxes = np.rint(np.clip(boxes * (size / (width, height)), 0, size)).astype(int)
            # If the detector saw the picture much enlarged, a box may be smaller than a pixel and cannot be cut out.
            boxes = boxes[(np.ptp(boxes, axis=1) > 0).all(axis=1)]
            batch.write(row, "boxes", boxes[reading_order(boxes)].tolist())


def reading_order(boxes: Array) -> list[int]:
    """Indices of the boxes line by line from the top, each line from the left.

    A box belongs to the line above it if its middle is less than half a box's height below the middle of the line's
    last box. Above and below follow the direction of most boxes, since a page may lie aslant. Columns are read across.
    """
    if not len(boxes):
        return []
    right = boxes[:, 1] - boxes[:, 0]
    slope = np.median(np.arctan2(right[:, 1], right[:, 0]))
    middles = boxes.mean(axis=1) @ np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
    heights = np.linalg.norm(boxes[:, 3] - boxes[:, 0], axis=1)
    lines: list[list[int]] = []
    for index in np.argsort(middles[:, 1], kind="stable"):
        last = lines[-1][-1] if lines else None
        if last is not None and middles[index, 1] - middles[last, 1] < min(heights[index], heights[last]) / 2:
            lines[-1].append(int(index))
        else:
            lines.append([int(index)])
    return [index for line in lines for index in sorted(line, key=lambda one: middles[one, 0])]
