"""Calls: whether a call is made in the middle of another one of the same object, by a signal's handler or finaliser."""

from __future__ import annotations

from types import CodeType, FrameType
from typing import cast

__all__ = ["CALLS", "NESTED", "is_within"]

#: The code of every function in whose middle no call of the same object may be made.
CALLS: set[CodeType] = set()

NESTED = (
    "a client was used by a signal's handler, or a finaliser, in the middle of another call of it; set a flag there, "
    "and look at it after the call"
)


def is_within(frame: FrameType, owner: object) -> bool:
    """Whether a call of `owner` is under way in this thread.

    Args:
        frame: of a new call of it.
    """
    outer = frame.f_back
    while outer is not None:
        if outer.f_code in CALLS and cast("object", outer.f_locals.get("self")) is owner:
            return True
        outer = outer.f_back
    return False
