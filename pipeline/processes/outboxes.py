"""Outboxes: the scheduler's connections to all others, and the locks by which it sees that a client has died."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.scheduler.door import (
    STRANGER,
    SUPERVISOR,
    Connect,
    Decided,
    Disconnect,
    Limits,
    Log,
    Receiver,
)
from pipeline.scheduler.reception import STRANGER_MS
from pipeline.wire.address import WORKER, Address
from pipeline.wire.codec import Sent
from pipeline.wire.links import MOST_SOCKETS, Outbox, connect
from pipeline.wire.run_dir import lock_path
from shm.owner import Alive, OwnerWatch, probe

__all__ = ["Outboxes", "limits_of"]

_CLIENT_CHECK_NS = 250_000_000

_MOST_STRANGERS = 32

#: Descriptors, as counted in /proc/<pid>/fd: of a scheduler without workers and clients, and for each worker and
#: client.
_OWN_FILES = 16
_WORKER_FILES = 3
_CLIENT_FILES = 4
_OWN_SOCKETS = 8 + _MOST_STRANGERS


class Outboxes:
    """One connection a receiver.

    Args:
        run_dir: of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._open: dict[Receiver, Outbox] = {SUPERVISOR: connect(run_dir, SUPERVISOR)}
        #: Of each client its lock, by which its death is seen.
        self._watches: dict[int, OwnerWatch] = {}
        self._checked_at = 0

    def deliver(self, decided: Iterable[Decided]) -> list[int]:
        """Send what was decided, and connect and disconnect as it says; returns the clients that were not there."""
        absent: list[int] = []
        for receiver, message in decided:
            if isinstance(message, Connect):
                if not self._connect(message.client):
                    absent.append(message.client)
            elif isinstance(message, Disconnect):
                self._disconnect(message.receiver, message.linger_ms)
            elif isinstance(message, Log):
                print(message.text, file=sys.stderr)
            elif (outbox := self._open.get(receiver)) is not None:
                outbox.send(message)
            elif receiver.kind == WORKER:
                outbox = self._open[receiver] = connect(self._run_dir, receiver)
                outbox.send(message)
            elif receiver.kind == STRANGER:
                self._answer_stranger(receiver.number, message)
        return absent

    def dead(self, now: int) -> list[int]:
        """The clients whose lock is free by now; called now and then. `now`: monotonic nanoseconds."""
        if now < self._checked_at + _CLIENT_CHECK_NS:
            return []
        self._checked_at = now
        # It is dead, or has left and its goodbye was lost. Whether its lock file was removed does not matter.
        return [number for number, watch in self._watches.items() if not watch.alive]

    def _connect(self, number: int) -> bool:
        if number not in self._watches:
            try:
                self._watches[number] = OwnerWatch(self._lock_of(number))
            except OSError:
                # It has left again; or its lock was removed, which it makes anew before it says hello once more.
                # Without a lock, the scheduler could not tell when its slots may be given to others.
                return False
        receiver = Address.client(number)
        if (old := self._open.get(receiver)) is not None:
            old.close()
        self._open[receiver] = connect(self._run_dir, receiver)
        return True

    def _disconnect(self, receiver: Receiver, linger_ms: int) -> None:
        outbox = self._open.pop(receiver, None)
        if outbox is not None:
            outbox.close(linger_ms)
        watch = None if receiver.kind == WORKER else self._watches.pop(receiver.number, None)
        if watch is not None:
            watch.close()

    def _answer_stranger(self, number: int, message: Sent) -> None:
        if not isinstance(probe(self._lock_of(number)), Alive):
            return
        outbox = connect(self._run_dir, Address.client(number))
        outbox.send(message)
        # In the background: a process that does not take it must not hold others up.
        outbox.close(linger_ms=STRANGER_MS)

    def _lock_of(self, number: int) -> Path:
        return lock_path(self._run_dir, Address.client(number))

    def close(self) -> None:
        """Close all; what the supervisor was sent may take a second to leave this process."""
        for watch in self._watches.values():
            watch.close()
        for receiver, outbox in self._open.items():
            outbox.close(linger_ms=1000 if receiver == SUPERVISOR else 0)


def limits_of(files: int, workers: int, segments: int) -> Limits:
    """How many clients and strangers there are descriptors and sockets for. With more of them, libzmq would abort this
    process.

    A client takes four: its lock, the connection from it, and a socket with one to it. A process that connects takes
    one before it has said a word, so a quarter is left for those that wait.

    Args:
        files: how many descriptors the process may have.
        workers: of all stages.
        segments: the recorder's included.
    """
    left = (files - _OWN_FILES - segments - _WORKER_FILES * workers) * 3 // 4 // _CLIENT_FILES
    clients = max(1, min(left, MOST_SOCKETS - workers - _OWN_SOCKETS))
    return Limits(clients, max(2, min(_MOST_STRANGERS, files // 32)))
