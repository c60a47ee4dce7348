"""Both ends of the link of rings in one process, and a peer that says what it likes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.wire import rings, zeromq
from pipeline.wire.address import RING_SUFFIX, SCHEDULER, Address
from pipeline.wire.messages import Bye, Message
from pipeline.wire.sockets import path_of

__all__ = ["WORKER", "Ends", "bye", "byes", "descriptors", "ends", "targets"]

WORKER = Address.worker(3)


def bye(number: int) -> Bye:
    """A message that can be told from others."""
    return Bye(number, ())


def byes(*numbers: int) -> list[Message]:
    return [bye(number) for number in numbers]


class Ends:
    """The inbox of a scheduler, and a worker with its own and an outbox to it.

    Args:
        polled, spins: of the scheduler's inbox.
    """

    def __init__(self, run_dir: Path, *, polled: bool = False, spins: bool = False) -> None:
        self.run_dir = run_dir
        self.inbox = rings.listen(run_dir, SCHEDULER, polled=polled, spins=spins)
        self.own = rings.listen(run_dir, WORKER)
        self.outbox = rings.connect(run_dir, SCHEDULER, self.own)

    def received(self, count: int) -> list[object]:
        """What the scheduler receives; the worker goes on meanwhile."""
        found: list[object] = []
        while len(found) < count:
            found += self.inbox.receive(20)
            self.go_on()
        return found

    def go_on(self) -> None:
        """What the worker's loop does."""
        self.own.receive()
        for outbox in self.own.resumable():
            outbox.proceed()

    def replace_inbox(self) -> None:
        """The scheduler dies, and the next one comes. What is sent over ZeroMQ goes to that: a connection to the dead one
        could lose some."""
        self.inbox.close()
        self.inbox = rings.listen(self.run_dir, SCHEDULER)
        self.outbox._push.close()
        self.outbox._push = zeromq.connect(self.run_dir, SCHEDULER)

    def connected(self) -> socket.socket:
        """A peer of the scheduler that has connected, and has not said a word."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(path_of(self.run_dir, SCHEDULER, RING_SUFFIX))
        return connection

    def close(self) -> None:
        self.outbox.close()
        self.own.close()
        self.inbox.close()


@contextmanager
def ends(run_dir: Path, *, polled: bool = False, spins: bool = False) -> Iterator[Ends]:
    made = Ends(run_dir, polled=polled, spins=spins)
    try:
        yield made
    finally:
        made.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def targets() -> list[str]:
    """What the descriptors of this process are of."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found
