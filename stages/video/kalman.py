"""Kalman: where a thing is, and how fast it moves, from boxes that are not exact. Pure.

A filter of constant velocity for each of four numbers, as in SORT (Bewley et al. 2016, https://arxiv.org/abs/1602.00763):
y and x of the box's centre, its height and its width. They are independent of each other, so each filter is of two
numbers, place and speed, and all four are computed at once. Noise is in proportion to the box: a thing near the camera
moves by more of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.stage import Array

__all__ = ["Motion", "begun", "box_of", "corrected", "predicted"]

#: Standard deviations, as parts of the box's longer side: of a detector's box, of the speed of a thing that was seen
#: once (each second), and of the change of speed (each second, each second).
_MEASURED, _UNKNOWN_SPEED, _CHANGE = 0.05, 2.0, 1.0

_SMALLEST = 1e-6
"""Of a side of a box: the filter may predict that a shrinking thing is of no size, or less."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What is known of one thing. All arrays are float64 of shape (4,): y, x, height, width."""

    place: Array
    """In fractions of the picture."""
    speed: Array
    """The same each second."""
    place_variance: Array
    covariance: Array
    speed_variance: Array


def begun(box: Sequence[float] | Array) -> Motion:
    """The motion of a thing that is seen for the first time."""
    place = _place_of(box)
    scale = place[2:].max()
    return Motion(
        place,
        np.zeros(4),
        np.full(4, (_MEASURED * scale) ** 2),
        np.zeros(4),
        np.full(4, (_UNKNOWN_SPEED * scale) ** 2),
    )


def predicted(motion: Motion, seconds: float) -> Motion:
    """The motion after that time, if the thing goes on as it did; it is known less exactly."""
    change = (_CHANGE * motion.place[2:].max()) ** 2
    place = motion.place + seconds * motion.speed
    place[2:] = place[2:].clip(_SMALLEST)
    return Motion(
        place,
        motion.speed,
        motion.place_variance
        + 2 * seconds * motion.covariance
        + seconds**2 * motion.speed_variance
        + change * seconds**4 / 4,
        motion.covariance + seconds * motion.speed_variance + change * seconds**3 / 2,
        motion.speed_variance + change * seconds**2,
    )


def corrected(motion: Motion, box: Sequence[float] | Array) -> Motion:
    """The motion once the thing has been seen in that box."""
    measured = _place_of(box)
    noise = (_MEASURED * measured[2:].max()) ** 2
    # How far the box counts, and the prediction does not.
    gain = motion.place_variance / (motion.place_variance + noise)
    speed_gain = motion.covariance / (motion.place_variance + noise)
    surprise = measured - motion.place
    return Motion(
        motion.place + gain * surprise,
        motion.speed + speed_gain * surprise,
        motion.place_variance * (1 - gain),
        motion.covariance * (1 - gain),
        motion.speed_variance - speed_gain * motion.covariance,
    )


def box_of(motion: Motion) -> Array:
    """The box, y_min, x_min, y_max, x_max; it may reach beyond the picture."""
    centre, half = motion.place[:2], motion.place[2:] / 2
    return np.concatenate([centre - half, centre + half])


def _place_of(box: Sequence[float] | Array) -> Array:
    corners = np.asarray(box, np.float64)
    return np.concatenate([(corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]).clip(_SMALLEST)])
