"""Frame: which camera a request's picture is of, and of when. Pure.

A source of frames calls its requests by the camera's name, and may add the frame's number, or the time at which it was
taken, in seconds since 1970:

    door                        a frame of the camera "door"; its time is when it gets to a stage
    door-17                     the same
    door@1764505805.250         the same, taken at that time

So a camera whose own name ends in a number, such as "yard-2", needs one of both: "yard-2-17", "yard-2@1764505805.250".
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Frame", "frame_of"]


class Frame(NamedTuple):
    """The origin of one picture."""

    camera: str
    taken: float | None
    """Seconds since 1970; None: the source does not say."""


def frame_of(name: str) -> Frame:
    """The frame that the request `name` has."""
    camera, sign, text = name.rpartition("@")
    if sign:
        try:
            taken = float(text)
        except ValueError:
            taken = math.nan
        if math.isfinite(taken):
            return Frame(camera, taken)
    camera, _, number = name.rpartition("-")
    return Frame(camera if camera and number.isdecimal() else name, None)
