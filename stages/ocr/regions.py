"""Regions: boxes of text in a detector's probability map.

The method is that of Differentiable Binarization (Liao et al., "Real-time Scene Text Detection with Differentiable
Binarization", AAAI 2020, section 3.4): pixels above a threshold form connected regions, each region becomes a
rectangle, and since the detector was trained on shrunken text, the rectangle grows again by area * ratio / perimeter.

Pure functions over arrays. A box is four corners (x, y), clockwise from the upper left corner of its text.
"""

from __future__ import annotations

import numpy as np

from stages.stage import Array

__all__ = ["text_boxes"]

#: Regions whose rectangle is narrower than this, in pixels of the map, are noise; a box is wider once it has grown.
_NARROWEST = 3.0


def text_boxes(
    probability: Array, threshold: float = 0.3, score: float = 0.6, grow: float = 2.0
) -> tuple[Array, Array]:
    """The boxes of a probability map, in no particular order.

    Args:
        probability: float32 of shape (H, W).
        threshold: a pixel is text above this.
        score: a region counts if the mean over its pixels is at least this.
        grow: a rectangle grows on each side by area * grow / perimeter.

    Returns:
        Boxes, float64 of shape (n, 4, 2), in pixels of the map, perhaps beyond its edges; and their scores (n,).
    """
    rows, starts, ends = _runs(probability > threshold)
    if not len(rows):
        return np.zeros((0, 4, 2)), np.zeros(0)
    region = _regions(rows, starts, ends, probability.shape[1])
    sums = np.concatenate([[0.0], np.cumsum(probability, dtype=np.float64)])
    line = rows * probability.shape[1]
    count = np.bincount(region, ends - starts)
    scores = np.bincount(region, sums[line + ends] - sums[line + starts]) / count
    # One slice for each region; within it, runs are in the order of their rows.
    order = np.argsort(region, kind="stable")
    limits = np.searchsorted(region[order], np.arange(len(count) + 1))
    boxes, kept = [], []
    for number in np.flatnonzero((scores >= score) & (count >= _NARROWEST**2)):
        runs = order[limits[number] : limits[number + 1]]
        rectangle = _smallest_rectangle(_hull(rows[runs], starts[runs], ends[runs]))
        width, height = _sides(rectangle)
        if min(width, height) < _NARROWEST:
            continue
        boxes.append(_grown(rectangle, grow * width * height / (2 * (width + height))))
        kept.append(scores[number])
    return np.array(boxes).reshape(-1, 4, 2), np.array(kept)


def _runs(mask: Array) -> tuple[Array, Array, Array]:
    """Rows, first columns and ends of the runs of True, in order."""
    height, width = mask.shape
    framed = np.zeros((height, width + 2), np.int8)
    framed[:, 1:-1] = mask
    edges = np.flatnonzero(np.diff(framed.ravel()))
    rows, columns = np.divmod(edges, width + 2)
    return rows[0::2], columns[0::2], columns[1::2]


def _regions(rows: Array, starts: Array, ends: Array, width: int) -> Array:
    """For each run the number of its region, from 0; runs belong together if they touch, corners included."""
    stride = width + 1
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + ends, below + starts)
    behind = np.searchsorted(rows * stride + starts, below + ends, side="right")
    touching = np.maximum(behind - first, 0)
    upper = np.repeat(np.arange(len(rows)), touching)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    label = np.arange(len(rows))
    while True:
        one, other = label[upper], label[lower]
        apart = one != other
        if not apart.any():
            return np.unique(label, return_inverse=True)[1].ravel()
        # Put the higher root under the lower one, then make every label point to its root again.
        np.minimum.at(label, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while (label != (root := label[label])).any():
            label = root


def _hull(rows: Array, starts: Array, ends: Array) -> Array:
    """Corners of the convex hull of a region's pixels, each pixel being a square; float64 (n, 2)."""
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left = np.full(bottom - top + 1, np.iinfo(np.int64).max)
    right = np.full(bottom - top + 1, -1)
    for edge in (rows - top, rows - top + 1):
        np.minimum.at(left, edge, starts)
        np.maximum.at(right, edge, ends)
    ys = range(top, bottom + 1)
    # Down the left side, up the right side; each keeps only the corners that bend outwards.
    down = _bends(list(zip(left.tolist(), ys)), -1)
    up = _bends(list(zip(right.tolist(), ys)), 1)
    return np.array(down + up[::-1], np.float64)


def _bends(points: list[tuple[int, int]], side: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for x, y in points:
        while len(kept) > 1:
            (ax, ay), (bx, by) = kept[-2:]
            if side * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) > 0:
                break
            kept.pop()
        kept.append((x, y))
    return kept


def _smallest_rectangle(hull: Array) -> Array:
    """The rectangle of the least area around a hull: one of its sides lies along the hull (Freeman, Shapira 1975)."""
    edges = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2))
    # Width and height can be assigned to the sides in two ways: take the one that is nearer to upright text.
    angles[angles > np.pi / 4] -= np.pi / 2
    along = np.stack([np.cos(angles), np.sin(angles)])
    across = np.stack([-along[1], along[0]])
    x, y = hull @ along, hull @ across
    x0, x1, y0, y1 = x.min(axis=0), x.max(axis=0), y.min(axis=0), y.max(axis=0)
    best = int(np.argmin((x1 - x0) * (y1 - y0)))
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])[:, :, best]
    rectangle: Array = corners @ np.stack([along[:, best], across[:, best]])
    return rectangle


def _sides(box: Array) -> tuple[float, float]:
    """Width and height of a rectangle."""
    width, height = np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[3] - box[0])
    return float(width), float(height)


def _grown(box: Array, distance: float) -> Array:
    """The rectangle, enlarged by `distance` on each side."""
    width, height = _sides(box)
    right, down = (box[1] - box[0]) / width * distance, (box[3] - box[0]) / height * distance
    grown: Array = box + np.stack([-right - down, right - down, right + down, down - right])
    return grown
