"""Ring: a queue of frames in shared memory, with one writer and one reader. Pure: bytes, no process, socket or time.

    byte 0        head   bytes ever written: the writer's word
    byte 128      tail   bytes ever read: the reader's word
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
"""

from __future__ import annotations

import os
import platform
import struct

from shm.errors import RingBroken

__all__ = ["HEADER_BYTES", "RingReader", "RingWriter", "framed", "why_no_rings"]

HEADER_BYTES = 256
"""Before the data. Head and tail are 128 bytes apart: processors fetch lines of 64 bytes in pairs."""

#: Positions of the words, in words.
_HEAD, _TAIL = 0, 16

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
