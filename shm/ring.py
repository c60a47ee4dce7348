"""Ring: a queue of frames in shared memory, with one writer and one reader. Pure: bytes, no process, socket or time.

    byte 0        head   bytes ever written: the writer's word
    byte 128      tail   bytes ever read: the reader's word
    byte 136      awake  not 0: the reader will look at the head before it sleeps, and needs no bell: the reader's word
    byte 256 ...  data   `capacity` bytes; byte n of the stream lies at n % capacity

        data   ┌──────────┬───────────────────────────────┬──────────┐
               │   free   │ length frame   length frame   │   free   │      head - tail bytes are written and not read;
               └──────────┴───────────────────────────────┴──────────┘      what meets the end goes on at the beginning
                          ▲ tail % capacity               ▲ head % capacity

A frame is its length (4 bytes, little-endian) and its bytes. The ring carries a stream: a frame may be larger than the
ring, or than the room that is free just now; then its first part is written, and the rest once there is room.

**Neither side trusts the other.** Each keeps its own position to itself and only shows it in its word; it never reads
it back. The other's word is checked: `tail <= head <= tail + capacity`, otherwise the ring is refused (`RingBroken`),
as is a length above the limit. What is read is copied out before it is looked at. So a peer that writes anything into
the memory, at any time, makes no side read or write outside of it. (That it cannot make the memory smaller is the
matter of `shm.sealed`.)

**Neither side locks anything**, so the death of one leaves nothing locked.

**A call that is interrupted**, as by a signal's handler that raises, has happened or has not: the position is one
attribute, which is changed after the bytes are there, and shown after that. A frame that a reader has cut off and could
not hand over is lost, as it is with a socket.

**The order of memory.** The bytes of a frame must be seen before the head that covers them, and a tail must not be seen
before the bytes were copied out. Python has no fences. On x86 none are needed: a processor shows its stores in their
order, and does not let a store overtake an earlier load (Intel SDM volume 3, 9.2.2; that holds for a copy by string
instructions and the store after it, 9.2.4.3). CPython executes the two as two calls of C functions, in the order of the
program, and an item of a memoryview of format "Q" is stored by one instruction of 8 aligned bytes, so no half of a
word is ever seen. ARM orders neither: `why_no_rings` says whether this machine does.

**No wake-up is lost.** A writer rings a bell (of its own, outside of this module) only if the reader sleeps:

    writer   W1 head = n              reader   R1 awake = 0
             W2 fence                          R2 fence
             W3 awake == 0: ring               R3 head is what was read: sleep until the bell, otherwise take

The reader would sleep on without a bell if R3 did not see W1, and W3 did not see R1. With the fences that cannot be: W1
is seen before W3 looks, and R1 before R3 looks, so of W3 and R3, the one that looks last sees the other side's word.
Without them it can be, on x86 too: a processor lets a load overtake an earlier store to another place. The fence is a
lock that is free, taken once (`Fence`): CPython takes it by a compare-and-exchange, a locked instruction on x86, which
no load and no store passes (the same manual, 9.2.2 and 9.2.3.9). A reader that lies with its word is not woken, and
harms no other process.
"""

from __future__ import annotations

import os
import platform
import struct
import threading

from shm.errors import RingBroken

__all__ = ["HEADER_BYTES", "Fence", "RingReader", "RingWriter", "framed", "why_no_rings"]

HEADER_BYTES = 256
"""Before the data. Head and tail are 128 bytes apart: processors fetch lines of 64 bytes in pairs."""

#: Positions of the words, in words.
_HEAD, _TAIL, _AWAKE = 0, 16, 17

_LENGTH = struct.Struct("<I")

#: Bytes in front of a frame that is not complete, above which they are let go of.
_MOST_USED = 1 << 16

#: Machines whose processors show stores in their order.
_ORDERED = frozenset({"x86_64", "amd64", "i386", "i486", "i586", "i686"})


def why_no_rings(machine: str = "") -> str:
    """Why two processes of this machine cannot share a ring; empty: they can.

    Args:
        machine: as `platform.machine()` names it; default: this one.
    """
    if (machine or platform.machine()).lower() not in _ORDERED:
        return "its processors do not order memory as rings need it (they are not x86)"
    if not hasattr(os, "memfd_create") or not hasattr(os, "eventfd"):
        return "its Python has no memfd_create or no eventfd"
    return ""


def framed(frame: bytes) -> bytes:
    """What is written for a frame: its length, and its bytes."""
    return _LENGTH.pack(len(frame)) + frame


class Fence:
    """Between a store and a load that must not overtake it, on machines that can have rings."""

    def __init__(self) -> None:
        # Of one user only, so it is free. Not a mutex of the C library, which may do without the locked instruction in
        # a process of one thread; CPython's locks are semaphores, which never do.
        self._lock = threading.Lock()

    def pass_(self) -> None:
        """All stores before this call are seen by others before any load after it looks."""
        lock = self._lock
        if not lock.acquire(False):
            # A call that was interrupted, or a fork in the middle of one, has left it taken.
            lock = self._lock = threading.Lock()
            lock.acquire(False)
        lock.release()


class _End:
    """One end of a ring.

    Args:
        memory: HEADER_BYTES and the data; zeros when the ring is made.
    """

    def __init__(self, memory: memoryview) -> None:
        if len(memory) <= HEADER_BYTES:
            raise ValueError(f"expected more than {HEADER_BYTES} bytes for a ring, found {len(memory)}")
        self._words = memory[:HEADER_BYTES].cast("Q")
        self._data = memory[HEADER_BYTES:]
        self.capacity = len(self._data)

    def release(self) -> None:
        """Let go of the memory. A second call does nothing."""
        self._words.release()
        self._data.release()


class RingWriter(_End):
    """The writing end."""

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory)
        self.position = 0
        """Bytes ever written: where the next one goes."""
        self._tail = 0
        self._fence = Fence()

    def write(self, data: bytes, begin: int = 0) -> int:
        """Write as much of `data`, from byte `begin` on, as there is room for; how many bytes that was.

        Raises:
            RingBroken: the reader's word is impossible.
        """
        head, tail, capacity = self.position, self._words[_TAIL], self.capacity
        if not self._tail <= tail <= head:
            raise RingBroken(f"the reader of a ring has read up to byte {tail} of {head}, after {self._tail}")
        self._tail = tail
        count = min(capacity - head + tail, len(data) - begin)
        at = head % capacity
        first = min(count, capacity - at)
        source = memoryview(data)
        self._data[at : at + first] = source[begin : begin + first]
        if first < count:
            self._data[: count - first] = source[begin + first : begin + count]
        self.position = head = head + count
        # Last: what it covers is there.
        self._words[_HEAD] = head
        return count

    def must_ring(self) -> bool:
        """Whether the reader may be asleep, and so must hear the bell of what was written until now."""
        # First: a reader that falls asleep just now sees the head, or this sees that it does.
        self._fence.pass_()
        return not self._words[_AWAKE]


class RingReader(_End):
    """The reading end.

    Args:
        memory: as of the writer.
        most_bytes: of a frame; a longer one breaks the ring.
    """

    def __init__(self, memory: memoryview, most_bytes: int) -> None:
        super().__init__(memory)
        self._most_bytes = most_bytes
        #: The tail; and what was taken from the ring and not handed over: the bytes from `begin` to `end` of a buffer.
        #: One attribute, so that an interrupted call has changed all of it or nothing.
        self._state: tuple[int, bytes | bytearray, int, int] = (0, b"", 0, 0)

    @property
    def waiting(self) -> bool:
        """Whether `take` may have something."""
        tail, buffer, begin, end = self._state
        return self._words[_HEAD] != tail or self._is_whole(buffer, begin, end)

    @property
    def has_grown(self) -> bool:
        """Whether there are bytes that were not taken in yet. It looks at the writer's word alone."""
        return self._words[_HEAD] != self._state[0]

    def wake(self) -> None:
        """Promise to look at `has_grown` before falling asleep: until then, the writer needs not ring."""
        self._words[_AWAKE] = 1

    def doze(self) -> None:
        """Take that promise back. Then, after a fence, `has_grown` must be looked at before sleeping."""
        self._words[_AWAKE] = 0

    def take(self, most: int) -> list[bytes]:
        """The next frames, at most so many, in their order; none if no whole one is here.

        Raises:
            RingBroken: the writer's word is impossible, or a frame is too long. The ring is of no use any more.
        """
        tail, buffer, begin, end = self._state
        frames, begin = self._cut(buffer, begin, end, most)
        if not frames and (fresh := self._fresh(tail)):
            tail += len(fresh)
            if begin == end:
                buffer, begin, end = fresh, 0, len(fresh)
            else:
                if not isinstance(buffer, bytearray) or begin > _MOST_USED:
                    buffer, begin, end = bytearray(buffer[begin:end]), 0, end - begin
                # Of a call that was interrupted.
                del buffer[end:]
                buffer += fresh
                end += len(fresh)
            frames, begin = self._cut(buffer, begin, end, most)
        self._state = tail, buffer, begin, end
        # Last: the bytes before it were copied.
        self._words[_TAIL] = tail
        return frames

    def _fresh(self, tail: int) -> bytes:
        """A copy of what lies in the ring."""
        head, capacity = self._words[_HEAD], self.capacity
        count = head - tail
        if not 0 <= count <= capacity:
            raise RingBroken(f"the writer of a ring of {capacity} bytes has written up to byte {head}, after {tail}")
        at = tail % capacity
        first = min(count, capacity - at)
        fresh = bytes(self._data[at : at + first])
        return fresh + bytes(self._data[: count - first]) if first < count else fresh

    def _cut(self, buffer: bytes | bytearray, begin: int, end: int, most: int) -> tuple[list[bytes], int]:
        """The whole frames at the beginning, at most so many, and where the rest begins."""
        frames: list[bytes] = []
        while len(frames) < most and self._is_whole(buffer, begin, end):
            behind = begin + 4 + _LENGTH.unpack_from(buffer, begin)[0]
            frames.append(bytes(buffer[begin + 4 : behind]))
            begin = behind
        return frames, begin

    def _is_whole(self, buffer: bytes | bytearray, begin: int, end: int) -> bool:
        if end - begin < 4:
            return False
        length = _LENGTH.unpack_from(buffer, begin)[0]
        if length > self._most_bytes:
            raise RingBroken(f"a frame of {length} bytes in a ring; expected at most {self._most_bytes}")
        return bool(end - begin - 4 >= length)
