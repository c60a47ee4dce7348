"""Outboxes: the scheduler's connections to all others, and the locks by which it sees that a client has died."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pipeline.logs.telling import tell
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
from pipeline.wire.address import CLIENTS, WORKER, Address
from pipeline.wire.codec import Sent
from pipeline.wire.links import MOST_SOCKETS, Inbox, Outbox, connect, forget
from pipeline.wire.messages import Observed
from pipeline.wire.run_dir import lock_path
from shm.owner import Alive, Dead, OwnerWatch, probe

__all__ = ["Outboxes", "limits_of"]

_CLIENT_CHECK_NS = 250_000_000
_SWEEP_NS = 5_000_000_000

#: Files of the folder of clients that are looked at in one go: a member of the group may have made any number.
_SWEEP_FILES = 64

_MOST_STRANGERS = 32
_LAST_MS = 2000

#: Descriptors, as counted in /proc/<pid>/fd: of a scheduler without workers and clients, and for each worker and
#: client.
_OWN_FILES = 16
_WORKER_FILES = 3
_CLIENT_FILES = 4
_GROUP_CLIENT_FILES = 5
#: More, of a worker or a client, with rings: one to it and one from it, each with its connection, its bell and memory.
_RING_FILES = 6
_OWN_SOCKETS = 8 + _MOST_STRANGERS


class Outboxes:
    """One connection a receiver.

    Args:
        run_dir: of the run.
        inbox: the scheduler's own.
    """

    def __init__(self, run_dir: Path, inbox: Inbox | None = None) -> None:
        self._run_dir = run_dir
        self._inbox = inbox
        self._open: dict[Receiver, Outbox] = {SUPERVISOR: connect(run_dir, SUPERVISOR)}
        #: Of each client its lock, by which its death is seen.
        self._watches: dict[int, OwnerWatch] = {}
        #: Those whose lock was free when it was last looked at.
        self._free: set[int] = set()
        self._checked_at = 0
        self._swept_at = 0
        #: Names in the folder of clients that are still to be looked at.
        self._names: Iterator[str] | None = None

    def deliver(self, decided: Iterable[Decided]) -> list[int]:
        """Send what was decided, and connect and disconnect as it says; returns the clients that were not there."""
        absent: list[int] = []
        strangers: dict[int, list[Sent]] = {}
        for receiver, message in decided:
            if isinstance(message, Connect):
                if not self._connect(message.client):
                    absent.append(message.client)
            elif isinstance(message, Disconnect):
                self._disconnect(message.receiver, message.linger_ms)
            elif isinstance(message, Log):
                tell("warning", message.text)
            elif (outbox := self._open.get(receiver)) is not None:
                outbox.send(message)
            elif receiver.kind == WORKER:
                outbox = self._open[receiver] = connect(self._run_dir, receiver, self._inbox)
                outbox.send(message)
            elif receiver.kind == STRANGER:
                strangers.setdefault(receiver.number, []).append(message)
        for number, messages in strangers.items():
            self._answer_stranger(number, messages)
        return absent

    def dead(self, now: int) -> list[int]:
        """The clients whose lock has been free for a while; called now and then. `now`: monotonic nanoseconds."""
        if now < self._checked_at + _CLIENT_CHECK_NS:
            return []
        self._checked_at = now
        self._sweep(now)
        # It is dead, or has left and its goodbye was lost. Whether its lock file was removed does not matter. Not at
        # once: a client says goodbye, then frees its lock, and the goodbye may be the slower one of the two.
        free = {number for number, watch in self._watches.items() if not watch.alive}
        dead = [number for number in free if number in self._free]
        self._free = free
        return dead

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
        self._open[receiver] = connect(self._run_dir, receiver, self._inbox)
        return True

    def _disconnect(self, receiver: Receiver, linger_ms: int) -> None:
        outbox = self._open.pop(receiver, None)
        if outbox is not None:
            outbox.close(linger_ms)
        watch = None if receiver.kind == WORKER else self._watches.pop(receiver.number, None)
        if watch is not None:
            if not watch.alive:
                self._remove_files(receiver.number)
            watch.close()

    def _sweep(self, now: int) -> None:
        """Remove what processes have left in the folder of clients that died without having been let in: a part of it
        at a time, and all of it every few seconds."""
        if self._names is None:
            if now < self._swept_at + _SWEEP_NS:
                return
            self._swept_at = now
            self._names = _names_in(self._run_dir / CLIENTS)
        names = list(islice(self._names, _SWEEP_FILES))
        if len(names) < _SWEEP_FILES:
            self._names = None
        for name in names:
            path = self._run_dir / CLIENTS / name
            if (number := _number_of(name)) is not None and isinstance(probe(path), Dead):
                self._remove_files(number)

    def _remove_files(self, number: int) -> None:
        """Remove the lock and the socket of a dead client, which cannot do so itself. It may be another user's: the
        folder is this user's."""
        forget(self._run_dir, Address.client(number))
        # After the socket: without the lock, nothing would say that the client is dead.
        with suppress(OSError):
            os.unlink(self._lock_of(number))

    def _answer_stranger(self, number: int, messages: Sequence[Sent]) -> None:
        if not isinstance(probe(self._lock_of(number)), Alive):
            return
        outbox = connect(self._run_dir, Address.client(number))
        # By one connection: what comes by several may overtake.
        for message in messages:
            outbox.send(message)
        # In the background: a process that does not take it must not hold others up. The last word to an observer has
        # longer: no other answer follows, and no other process waits.
        last = any(isinstance(message, Observed) and message.last for message in messages)
        outbox.close(linger_ms=_LAST_MS if last else STRANGER_MS)

    def _lock_of(self, number: int) -> Path:
        return lock_path(self._run_dir, Address.client(number))

    def close(self) -> None:
        """Close all; what the supervisor was sent may take a second to leave this process."""
        for watch in self._watches.values():
            watch.close()
        for receiver, outbox in self._open.items():
            outbox.close(linger_ms=1000 if receiver == SUPERVISOR else 0)


def _names_in(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:  # it may be removed, and the supervisor makes it anew
        for entry in entries:
            yield entry.name


def _number_of(name: str) -> int | None:
    """The client whose lock has this name; None if it is no lock's name. Other spellings of a number are none: they are
    not that client's."""
    try:
        number = int(name.partition(".")[0], 16)
    except ValueError:
        return None
    return number if name == f"{Address.client(number).file.rpartition('/')[2]}.lock" else None


def limits_of(files: int, workers: int, segments: int, group: bool = False, ring: bool = False) -> Limits:
    """How many clients and strangers there are descriptors and sockets for. With more of them, libzmq would abort this
    process.

    A client takes four: its lock, the connection from it, and a socket with one to it; and in a run with a group the
    file that this socket is connected to. A process that connects takes one before it has said a word, so a quarter is
    left for those that wait.

    Args:
        files: how many descriptors the process may have.
        workers: of all stages.
        segments: the recorder's included.
        group: whether the run has a group.
        ring: whether it has rings.
    """
    more = _RING_FILES if ring else 0
    each = (_GROUP_CLIENT_FILES if group else _CLIENT_FILES) + more
    left = (files - _OWN_FILES - segments - (_WORKER_FILES + more) * workers) * 3 // 4 // each
    clients = max(1, min(left, MOST_SOCKETS - workers - _OWN_SOCKETS))
    return Limits(clients, max(2, min(_MOST_STRANGERS, files // 32)))
