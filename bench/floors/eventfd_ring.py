"""EventfdRing, the eventfd floor: handles through single-producer, single-consumer rings in shared memory.

One ring and one eventfd for each hop. If a consumer finds its ring empty, it spins 40 us with sched_yield,
then writes that it sleeps and blocks in the eventfd; a producer signals a consumer only if it sleeps.

    word 0        published   entries ever written   (written by the producer only)
    word 8        asleep      1 while the consumer sleeps or is about to
    word 16 + 2i  entry i     slot, seq              i = number of the entry modulo the slots

The ring holds as many entries as there are slots, so it cannot overflow and no count of consumed
entries needs to be shared. `python -m bench.floors.eventfd_ring` is a relay process.

Why this is a floor and not how the pipeline works: plain Python stores into shared memory are ordered
only by x86-64's total store order (aligned 8-byte stores become visible whole and in program order;
Intel SDM vol. 3A, 9.2); the one order that TSO does not give, store before load, needs a lock
instruction (see `_full_barrier`). On AArch64 it would lose tensors. A hop has exactly one producer and
one consumer, known before the start; no process can be restarted, can join, or learns of a peer's death.
"""

from __future__ import annotations

import mmap
import os
import platform
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from bench.floors.child import become_relay, spawn
from bench.floors.producer import SILENCE_S, Handle, RingFloor
from bench.floors.slots import Slots, unnamed_shared_memory
from shm.layout import round_up

__all__ = ["EventfdRing"]

_SPIN_S = 40e-6
_PUBLISHED, _ASLEEP, _ENTRIES = 0, 8, 16

_lock = threading.Lock()


def _full_barrier() -> None:
    """No load below overtakes a store above: acquiring a lock is a LOCK-prefixed instruction on x86-64."""
    with _lock:
        pass


def _hop_words(slots: int) -> int:
    return round_up(_ENTRIES + 2 * slots, 8)  # whole cache lines


class Hop:
    """One end of one hop: the ring at `words` (a memoryview of uint64) and its eventfd."""

    def __init__(self, words: memoryview, slots: int, fd: int) -> None:
        self._words = words
        self._slots = slots
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._count = 0  # entries ever written (producer's end) or read (consumer's end)

    def put(self, handles: Sequence[Handle]) -> None:
        """Publish; wake the consumer if it sleeps."""
        words, count = self._words, self._count
        for slot, seq in handles:
            at = _ENTRIES + count % self._slots * 2
            words[at] = slot
            words[at + 1] = seq
            count += 1
        words[_PUBLISHED] = self._count = count  # after the entries: a process that sees the count sees them (TSO)
        _full_barrier()  # the count before the test of the flag, or both ends could miss each other
        if words[_ASLEEP]:
            words[_ASLEEP] = 0  # one signal a sleep
            os.eventfd_write(self._fd, 1)

    def take(self, timeout_s: float | None) -> list[Handle]:
        """All handles in the ring; waits for the first. Empty after a sleep of `timeout_s`."""
        words, count = self._words, self._count
        if words[_PUBLISHED] == count:
            clock, pause = time.perf_counter, os.sched_yield
            end = clock() + _SPIN_S
            while words[_PUBLISHED] == count and clock() < end:
                pause()
            while words[_PUBLISHED] == count:
                words[_ASLEEP] = 1
                _full_barrier()  # the flag before the last test, see put()
                if words[_PUBLISHED] != count:
                    words[_ASLEEP] = 0
                    break
                if timeout_s is not None and not self._poll.poll(timeout_s * 1e3):
                    return []
                os.eventfd_read(self._fd)  # may be a late signal for an earlier sleep; then test and sleep again
        published = words[_PUBLISHED]
        handles: list[Handle] = []
        while count < published:
            at = _ENTRIES + count % self._slots * 2
            handles.append((words[at], words[at + 1]))
            count += 1
        self._count = count
        return handles

    def close(self) -> None:
        """Let go of the ring's memory."""
        self._words.release()


class EventfdRing(RingFloor):
    """P of the eventfd floor; `relays` = 2 is the classic floor of three processes."""

    def __init__(self, relays: int = 2) -> None:
        if platform.machine() != "x86_64":
            raise RuntimeError(f"the eventfd floor needs x86-64's memory order; this is {platform.machine()}")
        super().__init__(relays)
        self._ring_fd = -1
        self._signals: list[int] = []
        self._ends: list[Hop] = []
        self._map: mmap.mmap | None = None

    @property
    def name(self) -> str:
        return f"eventfd-{self.relays}"

    def _handles_per_message(self, window: int) -> int:
        return 1  # publishing takes a few stores: waiting gains nothing

    def _connect(self, fd: int, nbytes: int, window: int) -> list[subprocess.Popen[bytes]]:
        hops = self.relays + 1
        size = hops * _hop_words(window) * 8
        self._ring_fd = unnamed_shared_memory(size)
        self._signals = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(hops)]
        self._map = mmap.mmap(self._ring_fd, size)
        self._ends = [_end(self._map, index, window, self._signals[index]) for index in (0, self.relays)]
        self._first, self._last = self._ends
        return [
            spawn(
                "bench.floors.eventfd_ring",
                [fd, nbytes, window, self._ring_fd, size, index, self._signals[index], self._signals[index + 1]],
                [fd, self._ring_fd, self._signals[index], self._signals[index + 1]],
            )
            for index in range(self.relays)
        ]

    def _send(self, handles: Sequence[Handle]) -> None:
        self._first.put(handles)

    def _receive(self) -> Sequence[Handle]:
        since = 0.0
        while not (handles := self._last.take(SILENCE_S)):
            since = since or time.monotonic()
            self._silence(since)
        return handles

    def _disconnect(self) -> None:
        for end in self._ends:
            end.close()
        self._ends = []
        if self._map is not None:
            self._map.close()
            self._map = None
        for fd in self._signals:
            os.close(fd)
        self._signals = []
        if self._ring_fd >= 0:
            os.close(self._ring_fd)
            self._ring_fd = -1


def _end(ring: mmap.mmap, index: int, slots: int, signal: int) -> Hop:
    words = _hop_words(slots)
    with memoryview(ring) as whole, whole.cast("Q") as all_words:
        return Hop(all_words[index * words : (index + 1) * words], slots, signal)


def relay(slots: Slots, hop: Hop, after: Hop) -> None:
    """Take handles from `hop`, look up their views as a stage would, touch nothing, put them into `after`."""
    views = slots.views
    while True:
        handles = hop.take(None)
        for slot, _ in handles:
            views[slot]
        after.put(handles)


def main() -> None:
    """Entry point of a relay process: PARENT FD NBYTES SLOTS RING_FD RING_SIZE INDEX SIGNAL NEXT_SIGNAL."""
    parent, fd, nbytes, count, ring_fd, size, index, signal, next_signal = map(int, sys.argv[1:])
    become_relay(parent)
    slots = Slots(fd, nbytes, count)
    ring = mmap.mmap(ring_fd, size)
    relay(slots, _end(ring, index, count, signal), _end(ring, index + 1, count, next_signal))


if __name__ == "__main__":
    main()
