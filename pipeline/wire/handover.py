"""Handover: how a ring comes from its writer to its reader, and what both say beside it.

A reader listens at a unix socket of its own (SOCK_SEQPACKET). A writer connects, and sends descriptors: nothing of a
ring has a name, so two containers need to share no more than the run's folder, and nothing is left when both are gone.

    writer                                             reader
      ──RING, descriptors of memory and bell──────────▶          the first packet, right after connecting
      ◀──────────────────────────────TAKEN─────────────          it is mapped; what is in it will be read
      ══ frames in the memory, then the bell ═════════▶
      ──ROOM? ────────────────────────────────────────▶          the ring is full, and frames wait at the writer
      ◀──────────────────────────────ROOM──────────────          what was in it was taken out
      end of the connection: the other one is dead, or has let go

The bell is an eventfd: a write wakes the reader, and the reader's epoll (edge-triggered) needs no read to hear the next
one, as it would of a named pipe or a datagram (bench/NOTES.md has the times). But a process that has an eventfd can
fill it and make the other side's write wait for ever. So a bell is given to processes of the same user only, which
could end this process anyway; to others, the bell is one more packet (RUNG), which never waits.

A kernel that names no user for a connection (SO_PEERCRED) names 65534, which is never trusted.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from typing import NamedTuple

from pipeline.errors import WireError
from pipeline.wire.codec import MAX_FRAME_BYTES
from shm import sealed
from shm.errors import SegmentCorrupt
from shm.layout import ceil_div
from shm.ring import HEADER_BYTES, RingReader, RingWriter

__all__ = [
    "ASK_ROOM", "CAPACITY", "RING_BYTES", "ROOM", "RUNG", "TAKEN", "Given", "Peer", "give", "heard", "peer_of",
    "receive", "say",
]  # fmt: skip

CAPACITY = 64 * 1024
"""Bytes of a ring: some hundreds of orders. What is more waits at its writer, which no ring makes wait."""

_RING, _RING_AND_BELL = b"trtlab ring 1", b"trtlab ring 1 and its bell"
TAKEN, ASK_ROOM, ROOM, RUNG = b"k", b"?", b"r", b"!"

_SIZE = HEADER_BYTES + CAPACITY

RING_BYTES = ceil_div(_SIZE, mmap.PAGESIZE) * mmap.PAGESIZE
"""The memory that a ring takes, all of it from its handover on."""

_MOST_BYTES = 64
_INT_BYTES = array.array("i").itemsize
_PEER = struct.Struct("3i")


class Peer(NamedTuple):
    """Who is at the other end of a connection, as the kernel says."""

    pid: int
    user: int
    group: int

    @property
    def is_trusted(self) -> bool:
        """Whether it is this process's own user."""
        return self.user == os.geteuid()

    def __str__(self) -> str:
        """As `pipeline.wire.peers` reads it."""
        return f"localhost:{self.user}:{self.group}:{self.pid}"


class Given(NamedTuple):
    """A ring that this process writes."""

    writer: RingWriter
    bell: int
    """-1: it is rung by packets."""


def peer_of(connection: socket.socket) -> Peer:
    """Who has connected, or is connected to."""
    return Peer(*_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)))


def give(connection: socket.socket) -> Given:
    """Make a ring, and give it to the other end.

    Raises:
        OSError: the other end is gone, or there are no descriptors left.
        NoRoom: there is no memory for it.
    """
    fd = sealed.create("trtlab-ring", _SIZE)
    bell = -1
    try:
        if peer_of(connection).is_trusted:
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        memory = sealed.map_sealed(fd, _SIZE)
        said, fds = (_RING, [fd]) if bell < 0 else (_RING_AND_BELL, [fd, bell])
        # `socket.send_fds` and `recv_fds` take flags, and ignore them.
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        connection.sendmsg([said], [rights], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BaseException:
        if bell >= 0:
            os.close(bell)
        raise
    finally:
        os.close(fd)
    return Given(RingWriter(memory), bell)


def receive(connection: socket.socket) -> tuple[RingReader, int]:
    """The ring that the other end gives, and its bell: -1 if it rings by packets.

    Raises:
        BlockingIOError: it has not said a word yet.
        WireError: what it gives is no ring.
    """
    try:
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        # The kernel closes what comes beyond these two.
        said, ancillary, _, _ = connection.recvmsg(_MOST_BYTES, socket.CMSG_LEN(2 * _INT_BYTES), flags)
    except BlockingIOError:
        raise
    except OSError as error:
        raise WireError(f"a ring cannot be taken: {error}") from error
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) // _INT_BYTES * _INT_BYTES])
    bell = -1
    try:
        # A descriptor that this process has no room for is missing.
        expected = {_RING: 1, _RING_AND_BELL: 2 if peer_of(connection).is_trusted else -1}.get(said)
        if len(fds) != expected:
            raise WireError(
                f"expected a ring from a process of this version, found {said!r} and {len(fds)} descriptors"
            )
        memory = sealed.map_received(fds[0], _SIZE)
        if len(fds) == 2:
            bell = fds.pop()
    except SegmentCorrupt as error:
        raise WireError(f"what should be a ring is none: {error}") from error
    finally:
        for fd in fds:
            os.close(fd)
    return RingReader(memory, MAX_FRAME_BYTES), bell


def say(connection: socket.socket, word: bytes) -> bool:
    """Send one of the words above, without waiting; whether there was room for it, or no reader any more."""
    try:
        connection.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except OSError:
        # Its end is told by the connection.
        pass
    return True


def heard(connection: socket.socket) -> bytes | None:
    """What the other end says; None: nothing yet; empty: it is gone."""
    try:
        return connection.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""
