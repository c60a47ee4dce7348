"""Pacing: which frames of a camera are wanted, so that there are so many each second. Pure."""

from __future__ import annotations

__all__ = ["Pacing"]

_EARLY = 0.02
"""Of a period: so much too early a frame may be, since presentation times are rounded to the stream's clock."""


class Pacing:
    """Wants a frame as soon as one is due. Its grid does not drift: 10 of 25 frames a second are 10, not 8.

    Args:
        fps: frames wanted each second; 0: all.
    """

    def __init__(self, fps: float) -> None:
        self._period = 1.0 / fps if fps else 0.0
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Whether the frame of this time is wanted.

        Args:
            at: its presentation time in seconds. If it jumps, in either direction, the grid begins anew there.
        """
        if not self._period:
            return True
        due = self._due
        if due is None or not due - 2 * self._period < at < due + 2 * self._period:
            due = at
        if at < due - _EARLY * self._period:
            self._due = due
            return False
        self._due = due + self._period
        return True

    def begin(self) -> None:
        """The stream begins anew, with times of its own."""
        self._due = None
