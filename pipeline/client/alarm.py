"""Alarm: has an asyncio loop wake a client, by a descriptor that has input and at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """What has a loop wake a client: a descriptor, and a time. The loop is told only of changes.

    Args:
        wake: called by the loop. It must not refer to the client, which could not be dropped then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._descriptor: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: When the timer is due; monotonic nanoseconds.
        self._at = 0

    def set(self, descriptor: int | None, next_at: int | None, now: int) -> None:
        """Wake the client when this descriptor has input, and at this time."""
        if descriptor is not None and descriptor != self._descriptor:
            self._loop.add_reader(descriptor, self._wake)
            self._descriptor = descriptor
        if next_at is None:
            self._cancel()
        elif self._timer is None or next_at < self._at:
            self._cancel()
            self._at = next_at
            self._timer = self._loop.call_later(max(0, next_at - now) / 1e9, self._ring)
        # Otherwise it rings too early, which does no harm: one that is set anew for each answer would cost more.

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unwatch(self, descriptor: int) -> None:
        """The descriptor is about to be closed."""
        self._descriptor = None
        self._loop.remove_reader(descriptor)

    def off(self) -> None:
        """Never wake it again."""
        self._cancel()
