"""Motion: whether something moves in a camera's picture, so that a detector need not look at each frame. Pure.

    frame ──▶ cells_of ──▶ 64 or so cells across, the mean brightness of each ──▶ MotionDetector.step ──▶ Movement

The cells are compared with those of a background that follows them slowly. If all of the picture becomes brighter or
darker, as under a cloud or by the camera's exposure, nothing has moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stages.stage import Array
from stages.video.geometry import Polygon, inside

__all__ = ["MotionDetector", "MotionOptions", "Movement", "cells_of"]

_SAMPLES = 4
"""Pixels of a cell along each axis that are looked at."""

_GREEN = 1
"""The channel that is taken for brightness: most of it is green, and to weigh all three takes longer."""


class Movement(NamedTuple):
    """What one frame shows."""

    look: bool
    """Whether the detector should look at it."""
    share: float
    """The share of the cells, without those in masks, that have changed."""


@dataclass(frozen=True, slots=True)
class MotionOptions:
    """When a frame should be looked at."""

    threshold: float = 12.0
    """By how much the brightness of a cell must differ from the background, of 255."""
    area: float = 0.002
    """The share of the cells that must differ, at least."""
    linger_s: float = 3.0
    """For how long frames are looked at after the last movement."""
    every_s: float = 60.0
    """After so long without a look, frames are looked at as if something had moved."""
    settle_s: float = 1.0
    """The time in which the background takes over about two thirds of what is new and stays."""
    masks: tuple[Polygon, ...] = ()
    """Cells whose middle is in one of these do not count."""


def cells_of(frame: Array, columns: int) -> Array:
    """The mean brightness of cells of about the same height and width: float32 of shape (rows, columns).

    Args:
        frame: RGB, uint8 of shape (H, W, 3), with pixels.
        columns: how many cells there are across, at least 1.
    """
    height, width, _ = frame.shape
    rows = max(1, round(columns * height / width))
    y, x = _places(height, rows), _places(width, columns)
    sampled = frame[y[:, None], x, _GREEN].reshape(rows, _SAMPLES, columns, _SAMPLES)
    cells: Array = sampled.mean(axis=(1, 3), dtype=np.float32)
    return cells


@lru_cache(maxsize=64)
def _places(extent: int, cells: int) -> Array:
    """The pixels along one axis that are looked at, evenly."""
    return ((np.arange(cells * _SAMPLES) + 0.5) * extent / (cells * _SAMPLES)).astype(np.intp)


class MotionDetector:
    """Which frames of one camera should be looked at."""

    def __init__(self, options: MotionOptions) -> None:
        self._options = options
        self._background: Array | None = None
        self._counts: Array | None = None
        self._time = 0.0
        #: When something moved last, and when a frame was looked at last.
        self._moved = self._looked = -math.inf

    def step(self, cells: Array, time: float) -> Movement:
        """Take one frame.

        Args:
            cells: as `cells_of` gives them.
            time: when the frame was taken, in seconds.
        """
        if self._background is None or self._background.shape != cells.shape:
            # The first frame, or the camera's size has changed: nothing is known of what moves.
            self._background, self._counts = cells.copy(), _counting(cells.shape, self._options.masks)
            share, moved = 0.0, True
        else:
            share = self._share(cells, time)
            moved = share >= self._options.area
        self._time = time
        if moved or time - self._looked >= self._options.every_s:
            self._moved = time
        # A clock that is put back must not end looking until it is where it was.
        self._moved, self._looked = min(self._moved, time), min(self._looked, time)
        look = time - self._moved < self._options.linger_s or moved
        if look:
            self._looked = time
        return Movement(look, share)

    def _share(self, cells: Array, time: float) -> float:
        """The share of the cells that differ from the background, which takes something of them."""
        assert self._background is not None
        assert self._counts is not None
        difference = cells - self._background
        elapsed = max(time - self._time, 0.0)
        self._background += (1 - math.exp(-elapsed / self._options.settle_s)) * difference
        counting = difference[self._counts]
        if not counting.size:
            return 0.0
        # What most cells have in common is light, and no movement.
        return float((abs(counting - np.median(counting)) > self._options.threshold).mean())


def _counting(shape: tuple[int, ...], masks: Sequence[Polygon]) -> Array:
    """Which cells are in no mask: bool of that shape."""
    rows, columns = shape
    return np.array(
        [
            [
                not any(inside((column + 0.5) / columns, (row + 0.5) / rows, mask) for mask in masks)
                for column in range(columns)
            ]
            for row in range(rows)
        ]
    )
