"""DecodeNanoDet: from a NanoDet's scores and sides to the things that it has found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shm.layout import ceil_div
from stages import catalogue
from stages.errors import BadOption
from stages.hints import did_you_mean
from stages.spec import TensorSpec
from stages.stage import Array, Batch
from stages.video.geometry import suppressed

__all__ = ["DecodeNanoDet", "boxes_of", "centres_of"]


class DecodeNanoDet:
    """Finds boxes in the output of a NanoDet (https://github.com/RangiLyu/nanodet), such as models/nanodet.onnx.

    Input `scores`: float32 of shape (cells, classes), a probability for each class, in the cells of the grids of all
    strides, one after the other, each row by row.
    Input `sides`: float32 of shape (cells, 4 * bins), for left, top, right and bottom the distribution of the distance
    from the cell's centre, in strides, before the softmax (generalized focal loss, https://arxiv.org/abs/2006.04388).
    Input `place`: float32 of shape (4,), as stages.video.letterbox gives it; only if `letterbox` is true.
    Output `detections`: float32 of shape (most, 6), class, score, y_min, x_min, y_max, x_max for each thing, by falling
    score; from 0 to 1 within the frame, cut off at its edges. Rows without a thing are 0.
    Output `count`: int32 of shape (), how many rows have one.

    If the scores are not finite, the request fails with BadInput.

    Args:
        size: height and width of the model's input, in pixels.
        strides: pixels from one cell to the next, for each grid.
        bins: of each side's distribution.
        classes: how many there are.
        threshold: cells with a lower score find nothing.
        overlap: of two boxes of one class whose intersection over union is larger, only the better one stays.
        most: how many things are found at most.
        labels: names of the classes, a list or a file with one a line; only for `keep`.
        keep: names of the classes to find; without it, all.
        letterbox: whether the model's input came from stages.video.letterbox; otherwise it was the whole frame.
        base_dir: the folder to which `labels` is relative.

    Raises:
        BadOption: an option is out of bounds, or `keep` names no class.
        ModelError: the file of labels cannot be read.
    """

    def __init__(
        self,
        size: int = 416,
        strides: Sequence[int] = (8, 16, 32),
        bins: int = 11,
        classes: int = 80,
        threshold: float = 0.4,
        overlap: float = 0.6,
        most: int = 20,
        labels: Sequence[str] | str = (),
        keep: Sequence[str] = (),
        letterbox: bool = True,
        base_dir: str | Path = ".",
    ) -> None:
        if not strides or min(*strides, bins - 1, classes, most) < 1 or size < max(strides):
            raise BadOption(
                f"size {size}, strides {list(strides)}, bins {bins}, classes {classes}, most {most}: expected numbers "
                "above 0, two bins or more, and a size of at least the largest stride"
            )
        if not (0 < threshold < 1 and 0 < overlap <= 1):
            raise BadOption(f"threshold {threshold}, overlap {overlap}: expected numbers from 0 to 1")
        self._threshold, self._overlap, self._most = threshold, overlap, most
        self._centres, self._strides = centres_of(size, strides)
        self._size, self._placed = size, letterbox
        self._keep = _indices(labels, keep, classes, Path(base_dir))
        cells = len(self._centres)
        self.inputs = (
            TensorSpec("scores", "float32", (cells, classes)),
            TensorSpec("sides", "float32", (cells, 4 * bins)),
            *((TensorSpec("place", "float32", (4,)),) if letterbox else ()),
        )
        self.outputs = (TensorSpec("detections", "float32", (most, 6)), TensorSpec("count", "int32", ()))

    def process(self, batch: Batch) -> None:
        for row, (scores, sides) in enumerate(zip(batch.rows("scores"), batch.rows("sides"))):
            if not np.isfinite((scores.min(), scores.max())).all():
                # NaN is above no threshold: nothing would be found, without any error.
                batch.fail(row, "the detector's scores are not finite")
                continue
            # Of 288,000 scores a few are above the threshold; the best of each cell takes four times as long to find.
            cells = np.unique(np.flatnonzero(scores >= self._threshold) // scores.shape[1])
            if self._keep is not None:
                cells = cells[(scores[cells][:, self._keep] >= self._threshold).any(axis=1)]
            place = batch.rows("place")[row] if self._placed else None
            found = self._found(cells, scores, sides, place)
            detections = batch.out(row, "detections")
            detections[: len(found)] = found
            detections[len(found) :] = 0
            batch.out(row, "count")[...] = len(found)

    def _found(self, cells: Array, scores: Array, sides: Array, place: Array | None) -> Array:
        """The detections of one frame, (n, 6)."""
        of_cells = scores[cells]
        if self._keep is None:
            classes = of_cells.argmax(axis=1)
        else:
            classes = self._keep[of_cells[:, self._keep].argmax(axis=1)]
        boxes = boxes_of(sides[cells], self._centres[cells], self._strides[cells]) / self._size
        if place is not None:
            boxes = place[[0, 1, 0, 1]] + boxes * place[[2, 3, 2, 3]]
        boxes = boxes.clip(0, 1)
        best = of_cells[np.arange(len(cells)), classes]
        kept = suppressed(boxes, best, classes, self._overlap, self._most)
        return np.column_stack([classes[kept], best[kept], boxes[kept]])


def centres_of(size: int, strides: Sequence[int]) -> tuple[Array, Array]:
    """y and x of the middle of each cell, float32 (cells, 2), and its stride, (cells,); in pixels."""
    centres, of_cells = [], []
    for stride in strides:
        side = (np.arange(ceil_div(size, stride), dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(side, side, indexing="ij")
        centres.append(np.column_stack([y.ravel(), x.ravel()]))
        of_cells.append(np.full(y.size, stride, np.float32))
    return np.concatenate(centres), np.concatenate(of_cells)


def boxes_of(sides: Array, centres: Array, strides: Array) -> Array:
    """The boxes of n cells, (n, 4), in pixels of the model's input.

    Args:
        sides: (n, 4 * bins), as the input of the stage.
        centres, strides: of these cells, as `centres_of` gives them.
    """
    if not len(sides):
        return np.zeros((0, 4), np.float32)
    powers = sides.reshape(len(sides), 4, -1)
    # The largest is subtracted first: e^x of a large number would overflow.
    powers = np.exp(powers - powers.max(axis=2, keepdims=True))
    distances = powers @ np.arange(powers.shape[2], dtype=np.float32) / powers.sum(axis=2)
    left, top, right, bottom = (distances * strides[:, None]).T
    y, x = centres.T
    return np.column_stack([y - top, x - left, y + bottom, x + right])


def _indices(labels: Sequence[str] | str, keep: Sequence[str], classes: int, base_dir: Path) -> Array | None:
    """The classes to find; None: all."""
    if not keep:
        return None
    names = catalogue.labels(labels, base_dir) if isinstance(labels, str) else list(labels)
    if len(names) != classes:
        raise BadOption(f"keep needs labels: expected {classes} names, found {len(names)}")
    for name in keep:
        if name not in names:
            raise BadOption(f"keep: no class {name!r}{did_you_mean(name, names, most=20)}")
    return np.array(sorted({names.index(name) for name in keep}))
