"""Link: the socket between the keeper and one gateway, in an asyncio loop. The same on both sides.

    send(frame, descriptor)        kept until the other side reads it
    frames, descriptors ──▶ take   in the order in which they were sent
    the other side is gone ──▶ end, once

The socket is one of a pair that the keeper makes for each process that it starts: it has no name, so that no other
process can connect.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable

from pipeline.errors import WireError
from pipeline.serving.frames import Frame, Pieces, RegionTold, encode

__all__ = ["Link"]

_CHUNK = 1 << 16
#: Descriptors that one recvmsg takes; the kernel sends no more than one with each frame.
_DESCRIPTORS = 16
#: Bytes that may wait for a side that does not read; then it is given up.
_WAITING = 64 << 20


class Link:
    """One end.

    Args:
        door: this end of the pair; it is closed with the link.
        take: is called for each frame, with the descriptor that came with it, which is its own from then on.
        end: is called once when the other end is gone, or has sent what is no frame: why, for people.
    """

    def __init__(
        self, door: socket.socket, take: Callable[[Frame, int | None], None], end: Callable[[str], None]
    ) -> None:
        self._door = door
        self._door.setblocking(False)
        self._take = take
        self._end = end
        self._pieces = Pieces()
        self._descriptors: deque[int] = deque()
        #: (bytes, a copy of the descriptor that goes with the first of them).
        self._out: deque[tuple[memoryview, int | None]] = deque()
        self._waiting = 0
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._door, self._read)

    def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """Send it; nothing happens if the other end is gone.

        Args:
            descriptor: a copy of it goes along.

        Raises:
            WireError: it is too long.
        """
        data = encode(frame)
        if self._over:
            return
        self._out.append((memoryview(data), None if descriptor is None else os.dup(descriptor)))
        self._waiting += len(data)
        if self._waiting > _WAITING:
            self.close("it does not read what it is told")
        elif len(self._out) == 1:
            self._write()

    def _write(self) -> None:
        while self._out:
            data, descriptor = self._out[0]
            rights = [] if descriptor is None else [
                (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]).tobytes())
            ]  # fmt: skip
            try:
                sent = self._door.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._door, self._write)
                return
            except OSError:
                # What it has said before its end is still there to be read; the reader finds the end.
                self._forget()
                self._loop.remove_writer(self._door)
                return
            self._waiting -= sent
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(data):
                self._out[0] = (data[sent:], None)
            else:
                self._out.popleft()
        self._loop.remove_writer(self._door)

    def _read(self) -> None:
        try:
            room = socket.CMSG_SPACE(_DESCRIPTORS * 4)
            data, rights, _, _ = self._door.recvmsg(_CHUNK, room, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, rights = b"", []
        for level, kind, body in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors.extend(array.array("i", body[: len(body) // 4 * 4]))
        if not data:
            self.close("it is gone")
            return
        try:
            for frame in self._pieces.add(data):
                if self._over:
                    return
                with_one = isinstance(frame, RegionTold)
                self._take(frame, self._descriptors.popleft() if with_one else None)
        except (WireError, IndexError) as error:
            self.close(f"it sent what is no frame: {error}")

    def _forget(self) -> None:
        """What waits is for no reader."""
        while self._out:
            _, descriptor = self._out.popleft()
            if descriptor is not None:
                os.close(descriptor)
        self._waiting = 0

    def close(self, why: str = "it was closed") -> None:
        """Close this end. May be called again."""
        if self._over:
            return
        self._over = True
        self._loop.remove_reader(self._door)
        self._loop.remove_writer(self._door)
        self._forget()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._door.close()
        self._end(why)
