"""Geometry: boxes and polygons, in fractions of a picture. Pure.

A box is y_min, x_min, y_max, x_max, each from 0 (upper or left edge) to 1, as Frigate's detectors have it. A polygon is
a list of corners [x, y].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.stage import Array

__all__ = ["Polygon", "foot", "inside", "overlaps", "suppressed"]

Polygon = Sequence[tuple[float, float]]

#: Boxes that are compared with each other at one time.
_BLOCK = 128


def overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of each of `boxes` (n, 4) with each of `others` (m, 4): float64 (n, m).

    0 for boxes that do not overlap, or that have no area.
    """
    boxes, others = boxes.astype(np.float64).reshape(-1, 1, 4), others.astype(np.float64).reshape(1, -1, 4)
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    shared = sides.clip(0).prod(axis=-1)
    whole = _areas(boxes) + _areas(others) - shared
    found: Array = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return found


def _areas(boxes: Array) -> Array:
    areas: Array = (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1)
    return areas


def suppressed(boxes: Array, scores: Array, classes: Array, most_overlap: float, most: int) -> list[int]:
    """Non-maximum suppression for each class: the indices of the boxes that stay, by falling score.

    Args:
        boxes: (n, 4).
        scores, classes: (n,).
        most_overlap: a box goes if it overlaps a better one of its class by more than this.
        most: how many stay at most.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < most:
        # Many at a time, since a call of numpy takes longer than what it does for a box; but not all, of which there
        # may be thousands.
        block, order = order[:_BLOCK], order[_BLOCK:]
        stay = _best_of(block, boxes, classes, most_overlap)[: most - len(kept)]
        kept += stay.tolist()
        if order.size:
            order = order[~_covered(stay, order, boxes, classes, most_overlap).any(axis=0)]
    return kept


def _best_of(block: Array, boxes: Array, classes: Array, most_overlap: float) -> Array:
    """Those of `block`, indices by falling score, that no better one of them covers."""
    covered = _covered(block, block, boxes, classes, most_overlap)
    stays = np.ones(len(block), np.bool_)
    for number in range(len(block)):
        if stays[number]:
            stays[number + 1 :] &= ~covered[number, number + 1 :]
    return block[stays]


def _covered(better: Array, worse: Array, boxes: Array, classes: Array, most_overlap: float) -> Array:
    """Which of `better` cover which of `worse`, both of them indices: bool (n, m)."""
    of_one_class = classes[better][:, None] == classes[worse]
    covered: Array = (overlaps(boxes[better], boxes[worse]) > most_overlap) & of_one_class
    return covered


def foot(box: Sequence[float]) -> tuple[float, float]:
    """x and y of the place at which the thing in a box stands: the middle of its lower edge."""
    return (box[1] + box[3]) / 2, box[2]


def inside(x: float, y: float, polygon: Polygon) -> bool:
    """Whether a point is inside a polygon, by the number of edges to the left of it: odd if it is inside.

    A polygon may cross itself. On its edges it depends: points on upper and left edges of a rectangle are inside.
    """
    found = False
    x_before, y_before = polygon[-1]
    for x_corner, y_corner in polygon:
        # One end counts, and the other does not, so that a corner on the line counts once.
        if (y_corner > y) != (y_before > y):
            crossing = x_corner + (y - y_corner) * (x_before - x_corner) / (y_before - y_corner)
            found ^= crossing <= x
        x_before, y_before = x_corner, y_corner
    return found
