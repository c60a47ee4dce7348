"""RingOutbox: the sending end of the link of rings, to the inbox of one process.

What is sent goes over the ring, once there is one, and over ZeroMQ otherwise:

    Hello, Ready            always over ZeroMQ; after it, a ring is tried (anew, if the last one is broken)
    WorkerReport            always over ZeroMQ: a worker may have one to send before the next scheduler takes rings
    all else                over the ring, in its order; what it has no room for waits here, in that order
    no ring can be had,     over ZeroMQ, from its first frame that was not read: the reader takes in what lies in its
    it broke, or this ends  rings before it hands over anything of ZeroMQ

So what is sent over ZeroMQ never comes before what was put into the ring earlier. The reverse can happen in two places,
and does no harm: the answer to a hello or a ready comes before anything else is sent that needs it, and counters have
no order. Between two messages of requests there is one way at a time, until the next hello: a submission that overtook
another would make that one look as if it was sent twice.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from pathlib import Path
from typing import Protocol

from pipeline.wire import zeromq
from pipeline.wire.address import CLIENT, RING_SUFFIX, Address
from pipeline.wire.codec import Sent, encode
from pipeline.wire.group import group_of
from pipeline.wire.handover import ASK_ROOM, RUNG, Given, give, heard, say
from pipeline.wire.messages import Hello, Ready, WorkerReport
from pipeline.wire.sockets import path_of, socket_of
from shm.errors import NoRoom, RingBroken
from shm.ring import framed

__all__ = ["RingOutbox", "Watch"]

#: With these a process begins to be known to the receiver. What follows them, both know by then.
_FIRST = (Hello, Ready)


class Watch(Protocol):
    """What tells an outbox that the other end has said something: the inbox of the same process."""

    @property
    def closed(self) -> bool:
        """Whether it tells no more."""

    def watch(self, outbox: RingOutbox, descriptor: int) -> bool:
        """From now on `Inbox.resumable` names the outbox whenever this connection has input; False: it is closed."""

    def watch_output(self, descriptor: int, wanted: bool) -> None:
        """Whether to do so also once the connection takes output again."""

    def resumed(self, outbox: RingOutbox) -> None:
        """The outbox has heard all that was said until now."""

    def unwatch(self, descriptor: int) -> None:
        """The connection is about to be closed."""


class RingOutbox:
    """A way to one inbox.

    Args:
        run_dir: the folder of the run.
        address: of the process whose inbox it is.
        inbox: of this process; it hears when a ring that was full has room.

    Raises:
        StartError: the path of the folder is too long.
    """

    def __init__(self, run_dir: Path, address: Address, inbox: Watch) -> None:
        self._push = zeromq.connect(run_dir, address)
        self._run_dir = run_dir
        self._address = address
        self._inbox = inbox
        #: Whether a ring was tried since the last hello.
        self._tried = False
        self._connection: socket.socket | None = None
        self._given: Given | None = None
        #: The frames so far, until the reader has taken the ring.
        self._untaken: list[bytes] | None = None
        #: Frames that are not wholly written, each with the position at which it begins.
        self._backlog: deque[tuple[int, bytes]] = deque()
        #: Whether the reader was asked for room, and has not answered.
        self._full = False
        #: Whether it could not even be asked.
        self._output = False

    @property
    def has_ring(self) -> bool:
        """Whether what is sent now goes over a ring."""
        return self._given is not None

    def send(self, message: Sent) -> bool:
        """Send without ever blocking, in order; False if the other side has gone for good."""
        frame = encode(message)
        if isinstance(message, _FIRST):
            self.proceed()
            self._tried = self._given is not None
            return self._push.send_frame(frame)
        if not self._tried and not isinstance(message, WorkerReport):
            self._open()
        if self._given is None or isinstance(message, WorkerReport):
            return self._push.send_frame(frame)
        if self._untaken is not None:
            self._untaken.append(frame)
        data, backlog = framed(frame), self._backlog
        begin = backlog[-1][0] + len(backlog[-1][1]) if backlog else self._given.writer.position
        backlog.append((begin, data))
        if not self._full or self._inbox.closed:
            self._write()
        return True

    def proceed(self) -> None:
        """Go on with what was held back, after the reader has made room, or is gone."""
        if self._connection is None:
            return
        self._full = False
        while (word := heard(self._connection)) is not None:
            if not word:
                self._give_up()
                return
            # Whatever the reader says, it has taken the ring.
            self._untaken = None
        if self._output:
            self._output = False
            self._inbox.watch_output(self._connection.fileno(), False)
        if self._backlog:
            self._write()
        # Last: until then, it is begun again if this is interrupted.
        self._inbox.resumed(self)

    def _open(self) -> None:
        """Have a ring, if the receiver takes rings."""
        self._tried = True
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if not self._connect(connection) or not self._inbox.watch(self, connection.fileno()):
                connection.close()
                return
            self._given = give(connection)
        except (OSError, NoRoom):
            # It takes none, or is dead, or this process has no descriptors or memory left.
            self._inbox.unwatch(connection.fileno())
            connection.close()
            return
        self._untaken = []
        self._connection = connection

    def _connect(self, connection: socket.socket) -> bool:
        path, fd = path_of(self._run_dir, self._address, RING_SUFFIX), -1
        if self._address.kind == CLIENT and group_of(self._run_dir) is not None:
            fd = socket_of(self._run_dir, self._address.number, RING_SUFFIX)
            if fd < 0:
                return False
            path = f"/proc/self/fd/{fd}"
        try:
            connection.connect(path)
        finally:
            if fd >= 0:
                os.close(fd)
        return True

    def _write(self) -> None:
        """Write as much as there is room for, and wake the reader if it sleeps."""
        given, backlog, connection = self._given, self._backlog, self._connection
        assert given is not None
        assert connection is not None
        writer = given.writer
        try:
            while backlog:
                begin, data = backlog[0]
                writer.write(data, writer.position - begin)
                if writer.position - begin < len(data):
                    break
                backlog.popleft()
        except RingBroken:
            self._give_up()
            return
        if backlog and self._inbox.closed:
            # Nothing would tell of the room.
            self._give_up()
        elif backlog:
            if not say(connection, ASK_ROOM):
                self._output = True
                self._inbox.watch_output(connection.fileno(), True)
            self._full = True
        elif not writer.must_ring():
            pass
        elif given.bell >= 0:
            os.eventfd_write(given.bell, 1)
        else:
            # If this does not get through, others of its kind are still to be heard.
            say(connection, RUNG)

    def _give_up(self) -> None:
        """From here on over ZeroMQ, beginning with what was not read."""
        frames = [data[4:] for _, data in self._backlog] if self._untaken is None else self._untaken
        self._let_go()
        for frame in frames:
            self._push.send_frame(frame)

    def _let_go(self) -> None:
        self._untaken = None
        self._full = self._output = False
        self._backlog.clear()
        given, self._given = self._given, None
        if given is not None:
            given.writer.release()
            if given.bell >= 0:
                os.close(given.bell)
        connection, self._connection = self._connection, None
        if connection is not None:
            self._inbox.unwatch(connection.fileno())
            connection.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._push.closed

    def close(self, linger_ms: int = 0) -> None:
        """Close. What lies in the ring stays there for its reader; what waits here goes over ZeroMQ, if it lingers."""
        if self._backlog and linger_ms:
            self._untaken = None
            self._give_up()
        self._let_go()
        self._push.close(linger_ms)

    def forget(self) -> None:
        """This process is the child of a fork: it must not keep its parent's connection open, nor write."""
        given, self._given, self._tried = self._given, None, True
        if given is not None and given.bell >= 0:
            os.close(given.bell)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
