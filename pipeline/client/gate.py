"""Gate: one thread waits until another one opens it, and either may be interrupted at any point.

`threading.Event` and `threading.Condition` are not for that: their `__enter__` is Python code, and a signal's handler
that raises in it, behind its last line but one, leaves their lock taken for ever. The thread that opens would wait for
it, and with it all that it serves. Here, each step is one call into C.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from contextlib import suppress
from typing import Protocol

__all__ = ["Gate", "Gates", "Opens"]


class Gate:
    """Shut, until it is opened for good. One thread waits at it."""

    __slots__ = ("_lock", "opened")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self.opened = False

    def open(self) -> None:
        """Let the thread go on. A second call does nothing."""
        self.opened = True
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, limit_s: float | None = None) -> bool:
        """Wait until it is open, at most `limit_s` seconds; whether it is."""
        if not self.opened:
            self._lock.acquire(True, -1.0 if limit_s is None else min(limit_s, threading.TIMEOUT_MAX))
        return self.opened


class Opens(Protocol):
    """What is told that it may go on."""

    def open(self) -> None:
        """It may."""


class Gates:
    """The gates of all threads that wait for one thing."""

    __slots__ = ("_gates",)

    def __init__(self) -> None:
        self._gates: deque[Opens] = deque()

    def add(self) -> Gate:
        """One more thread waits. It must look once more, now, whether what it waits for is there."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    def put(self, gate: Opens) -> None:
        """As `add`, for what is told in another way."""
        self._gates.append(gate)

    def drop(self, gate: Opens) -> None:
        """It waits no more. A second call does nothing."""
        with suppress(ValueError):
            self._gates.remove(gate)

    def open(self, most: int | None = None) -> int:
        """Let the threads go on, in turn, or the first `most` of them; how many did."""
        opened = 0
        while self._gates and (most is None or opened < most):
            with suppress(IndexError):
                self._gates.popleft().open()
                opened += 1
        return opened

    def __len__(self) -> int:
        return len(self._gates)
