"""NearRings: the rings that a process looks at by itself while it is awake, so that their writers need not ring.

    far ── it brings something ──▶ near, awake ── nothing is here ──▶ near, asleep ──▶ a bell, or the time is over
     ▲                                │  ▲ └── looked at for some microseconds, if that pays (Spinning)      │
     └── no other bell for long ──────┘  └───────────────────────────────────────────────────────────────────┘

A receiver that does not spin forgets at each sleep which rings were near: only what comes while it is at work needs no
bell. One that spins keeps them for a while, since it looks for what comes from any of them. `shm.ring` says why no
wake-up is lost between the last look and the sleep.
"""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from pipeline.wire.spinning import Spinning
from shm.ring import Fence, RingReader

__all__ = ["NEAR_SLEEPS", "NearRings"]

NEAR_SLEEPS = 16
"""A ring that has brought nothing for more sleeps than these is not near any more."""

Key = TypeVar("Key")


class NearRings(Generic[Key]):
    """Of one receiver.

    Args:
        ready: where it notes the rings that have something.
        spins: whether it looks for a while before it sleeps, if that pays.
    """

    def __init__(self, ready: dict[Key, None], spins: bool) -> None:
        self._ready = ready
        self._readers: dict[Key, RingReader] = {}
        #: How often the process has slept since a ring brought something.
        self._sleeps: dict[Key, int] = {}
        self._spinning = Spinning() if spins else None
        self._fence = Fence()

    def brought(self, key: Key, reader: RingReader) -> None:
        """This ring has something, and is about to be read."""
        self._readers[key] = reader
        self._sleeps[key] = 0
        reader.wake()

    def forget(self, key: Key) -> None:
        """It is not there any more, if it ever was near."""
        self._readers.pop(key, None)
        self._sleeps.pop(key, None)

    def clear(self) -> None:
        """None is there any more."""
        self._readers.clear()
        self._sleeps.clear()

    def look(self) -> bool:
        """See which of them have something; whether anything is ready."""
        for key, reader in self._readers.items():
            if reader.has_grown:
                self._ready[key] = None
        return bool(self._ready)

    def spin(self) -> bool:
        """The process is about to sleep: look for a while, if that pays. Whether something has come; otherwise all
        writers ring from now on."""
        spinning, clock = self._spinning, time.monotonic_ns
        if spinning is not None and spinning.begins(clock()):
            while self._readers and spinning.goes_on(clock()):
                if self.look():
                    spinning.ended(True, clock())
                    return True
        if not self.fall_asleep():
            return False
        if spinning is not None:
            spinning.ended(True, clock())
        return True

    def fall_asleep(self) -> bool:
        """From now on all writers ring; whether something came before that, so that the process must not sleep."""
        for reader in self._readers.values():
            reader.doze()
        if self._readers:
            self._fence.pass_()
        # Last: whatever is written after this look, its writer rings for.
        return self.look()

    def rise(self, found: bool) -> None:
        """The process has slept.

        Args:
            found: whether something has come; otherwise its time was over.
        """
        if self._spinning is None:
            self.clear()
            return
        self._spinning.ended(found, time.monotonic_ns())
        for key, reader in list(self._readers.items()):
            self._sleeps[key] += 1
            if self._sleeps[key] > NEAR_SLEEPS:
                self.forget(key)
            else:
                reader.wake()
