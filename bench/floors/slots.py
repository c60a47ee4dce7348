"""Slots of a floor: one mapping of shared memory without a name.

The producer creates and fills them, relay processes inherit the descriptor and attach.
The file is opened with O_TMPFILE in /dev/shm: the same tmpfs as the pipeline's segments, but never
an entry in it, so nothing can be left behind, however a process ends.

    0          stride        2*stride
    | slot 0   | slot 1      | ...          stride = nbytes rounded up to whole pages
    | seq .......... ~seq |                 first and last 8 bytes of the tensor
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from shm.layout import round_up

__all__ = ["Slots", "TornTensor", "stride_of", "unnamed_shared_memory"]

_MASK = (1 << 64) - 1


class TornTensor(RuntimeError):
    """A tensor came back torn, swapped or twice: the numbers of this run mean nothing."""


def stride_of(nbytes: int) -> int:
    """Bytes from one slot to the next for tensors of `nbytes`."""
    return round_up(nbytes, mmap.PAGESIZE)


def unnamed_shared_memory(nbytes: int) -> int:
    """A descriptor for `nbytes` of reserved shared memory without a name.

    Raises:
        OSError: /dev/shm has no room for it (now, not as a SIGBUS at first touch).
    """
    fd = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError:
        os.close(fd)
        raise
    return fd


class Slots:
    """`count` slots of `nbytes` over the descriptor `fd`, which the caller closes."""

    def __init__(self, fd: int, nbytes: int, count: int) -> None:
        if nbytes < 16 or nbytes % 8:
            raise ValueError(f"expected a multiple of 8 of at least 16 bytes (two stamps fit), found {nbytes}")
        stride = stride_of(nbytes)
        self._map = mmap.mmap(fd, stride * count)
        whole = np.frombuffer(self._map, np.uint8)
        self.views = [whole[slot * stride : slot * stride + nbytes] for slot in range(count)]
        self._words = memoryview(self._map).cast("Q")
        self._first = [slot * stride // 8 for slot in range(count)]
        self._last = [first + nbytes // 8 - 1 for first in self._first]

    def prefault(self) -> None:
        """Touch every page, so that no page fault falls into a measurement."""
        for view in self.views:
            view.fill(0)

    def fill(self, slot: int, source: np.ndarray[tuple[int], np.dtype[np.uint8]], seq: int) -> None:
        """Copy `source` into the slot with one memcpy, and stamp it with `seq`."""
        np.copyto(self.views[slot], source)
        words = self._words
        words[self._first[slot]] = seq
        words[self._last[slot]] = ~seq & _MASK

    def check(self, slot: int, seq: int) -> None:
        """Read both stamps back.

        Raises:
            TornTensor: the stamps are not those of `seq`.
        """
        words = self._words
        first, last = words[self._first[slot]], words[self._last[slot]]
        if first != seq or last != ~seq & _MASK:
            raise TornTensor(f"slot {slot}: expected the stamps of message {seq}, found {first} and ~{~last & _MASK}")

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self.views.clear()
        self._map.close()
