"""Access: a client's place in the folder of a run, and what it is welcomed with.

    <run>/clients/<number>.lock     held for as long as this process may touch the client's slots
    <run>/clients/<number>.sock     the client's inbox
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.client.connection import Connection
from pipeline.errors import Unavailable
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.interface import Interface
from pipeline.wire.links import Inbox
from pipeline.wire.messages import Welcome
from pipeline.wire.run_dir import LOCK, find_run, lock_path
from shm import segments
from shm.errors import OwnerAlive, ShmError
from shm.owner import OwnerLock, OwnerWatch
from shm.placement import map_pages
from shm.view import SegmentTable

__all__ = ["Access", "Joined", "join"]


class Access:
    """The way into a run.

    Args:
        run: the pipeline's name, the path of a run's folder, or None for the only one running.
        listen: makes the client's inbox, of the run's folder and its address.
    """

    def __init__(self, run: str | Path | None, listen: Callable[[Path, Address], Inbox]) -> None:
        self._run = run
        self._listen = listen
        #: None while there is no place in any run's folder.
        self.connection: Connection | None = None
        self._inbox: Inbox | None = None
        #: The supervisor, and the scheduler that this client was let in by.
        self._owner: OwnerWatch | None = None
        self._scheduler: OwnerWatch | None = None

    @property
    def by_path(self) -> bool:
        """Whether one certain run is meant, and not any run of that name."""
        return self._run is not None and os.sep in str(self._run)

    @property
    def inbox(self) -> Inbox:
        """Where the scheduler's messages come in."""
        assert self._inbox is not None
        return self._inbox

    def attach(self) -> None:
        """Find the run, and bind the inbox in its folder.

        Raises:
            Unavailable: it does not run.
        """
        run_dir = find_run(self._run)
        number = secrets.randbits(63)
        try:
            owner = OwnerWatch(run_dir / LOCK)
        except OSError as error:
            raise Unavailable(f"no pipeline runs in {run_dir}: {error}") from error
        try:
            lock = OwnerLock.acquire(lock_path(run_dir, Address.client(number)))
        except OSError as error:
            owner.close()
            raise Unavailable(f"no pipeline runs in {run_dir}: {error}") from error
        inbox = None
        try:
            inbox = self._listen(run_dir, Address.client(number))
            connection = Connection(run_dir, number, lock)
        except BaseException:
            if inbox is not None:
                inbox.close()
            lock.release()
            owner.close()
            raise
        self._inbox, self._owner = inbox, owner
        # Last: with it there is a place.
        self.connection = connection

    def detach(self, *, known: bool) -> None:
        """Leave the folder; if the scheduler knows the client, say goodbye."""
        # Each step may be repeated, and what it ends is forgotten after it: this may be interrupted, and is called
        # again then.
        if self._inbox is not None:
            self._inbox.close()
        if self.connection is not None:
            self.connection.leave(known)
        for watch in (self._owner, self._scheduler):
            if watch is not None:
                watch.close()
        self._inbox = self.connection = self._owner = self._scheduler = None

    def renew(self) -> None:
        """Make the client's lock and socket anew if they were removed: without them the scheduler lets no client in."""
        # The folder may be gone too: the supervisor makes it anew first.
        with suppress(OSError, OwnerAlive):
            if self.connection is not None:
                self.connection.renew_lock()
                self.inbox.renew()

    def watch_scheduler(self) -> None:
        """From now on `scheduler_is_gone` is about the scheduler that has just let the client in."""
        if self._scheduler is not None:
            self._scheduler.close()
        self._scheduler = None
        if self.connection is not None:
            # The lock was removed, or its owner has ended since: then the client tries again, or the supervisor has
            # ended too.
            with suppress(OSError):
                self._scheduler = OwnerWatch(lock_path(self.connection.run_dir, SCHEDULER))

    @property
    def is_over(self) -> bool:
        """Whether the run that the client has its place in has ended."""
        return self._owner is not None and not self._owner.alive

    @property
    def scheduler_is_gone(self) -> bool:
        """Whether the scheduler that has let the client in has ended. (The next one says that it does not know it.)"""
        if self._scheduler is None:
            self.watch_scheduler()
        return self.is_over if self._scheduler is None else not self._scheduler.alive


class Joined(NamedTuple):
    """The segments that a scheduler has let a client in to; see `Session.join`."""

    interface: Interface
    table: SegmentTable
    pools: list[tuple[int, int, int]]
    """The ingress pools by rising slot size: (slot bytes, segment number, slots)."""


def join(welcome: Welcome) -> Joined | None:
    """Attach what a welcome names; None if that is gone already: the next scheduler names other segments."""
    table = SegmentTable()
    pools = []
    for number, address in enumerate((*welcome.ingress, *welcome.answers)):
        try:
            segment = segments.attach((address.kind, address.name))
        except ShmError:
            table.close()
            return None
        except OSError as error:
            table.close()
            raise Unavailable(f"the pipeline's memory cannot be attached: {error}; is `ulimit -n` reached?") from error
        table.add(segment)
        if number < len(welcome.ingress):
            pools.append((segment.layout.slot_bytes, segment.number, segment.layout.slots))
            map_pages(segment)
    return Joined(welcome.interface, table, sorted(pools))
