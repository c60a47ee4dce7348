"""Access: a client's place in the folder of a run, and what it is welcomed with.

    <run>/clients/<number>.lock     held for as long as this process may touch the client's slots
    <run>/clients/<number>.sock     the client's inbox
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.client.connection import Connection
from pipeline.errors import Unavailable
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.group import hold_lock, taking_place
from pipeline.wire.interface import Interface
from pipeline.wire.links import Inbox
from pipeline.wire.messages import Welcome
from pipeline.wire.run_dir import LOCK, STOPPING, find_run, lock_path, root_of, serving, successor_of
from pipeline.wire.shards import entered, is_front
from shm import segments
from shm.errors import NotInGroup, OwnerAlive, SegmentForbidden, ShmError
from shm.owner import Alive, OwnerWatch, probe
from shm.placement import map_pages
from shm.segments.file import FileSegment
from shm.view import SegmentTable

__all__ = ["Access", "Joined", "Place", "join"]

Place = str | Path | Callable[[], Path] | None
"""Where a pipeline runs: its name, a run's id or the path of its folder, or None for the only one. Or a function that
gives the folder of the run that is meant now, or raises Unavailable; like a name, it may lead to another run later."""


class Access:
    """The way into a run.

    Args:
        run: where it runs.
        listen: makes the client's inbox, of the run's folder and its address.
        follows: whether the client goes with its pipeline to the run of a new version.
    """

    def __init__(self, run: Place, listen: Callable[[Path, Address], Inbox], *, follows: bool = True) -> None:
        self._run = run
        self._listen = listen
        self.follows = follows
        #: The run that has replaced the one before; looked for first.
        self._successor: Path | None = None
        #: The run that was found: that of the connection, or the front of it, if that is a shard.
        self._found: Path | None = None
        #: None while there is no place in any run's folder.
        self.connection: Connection | None = None
        self._inbox: Inbox | None = None
        #: Whether messages may be taken from it.
        self.listens = False
        #: The supervisor, and the scheduler that this client was let in by.
        self._owner: OwnerWatch | None = None
        self._scheduler: OwnerWatch | None = None

    @property
    def by_path(self) -> bool:
        """Whether one certain run is meant, and those that replace it, and not any run of that name."""
        return self._run is not None and not callable(self._run) and os.sep in str(self._run)

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
        self._found = None
        self._found = self._find()
        number = int.from_bytes(os.urandom(8), "little") >> 1
        with entered(self._found) as run_dir, taking_place(run_dir):
            owner = OwnerWatch(run_dir / LOCK)
            try:
                # By this lock the next client counts this one.
                lock = hold_lock(run_dir, Address.client(number))
            except BaseException:
                owner.close()
                raise
        if self.by_path and self.follows:
            # That folder leads to the run that serves, also once the folder of this one is gone.
            self._run = root_of(run_dir)
        inbox = None
        try:
            with taking_place(run_dir):
                inbox = self._listen(run_dir, Address.client(number))
            connection = Connection(run_dir, number, lock, inbox)
        except BaseException:
            if inbox is not None:
                inbox.close()
            lock.release()
            owner.close()
            raise
        self._inbox, self._owner, self.listens = inbox, owner, True
        # Last: with it there is a place.
        self.connection = connection

    def _find(self) -> Path:
        if self.by_path and not self.follows:
            return Path(str(self._run))
        if self._successor is not None:
            found = serving(self._successor)
            if isinstance(probe(found / LOCK), Alive):
                return found
        return find_run(self._run() if callable(self._run) else self._run)

    def move(self, successor: str, *, known: bool) -> None:
        """Leave the folder; `attach` looks for the run that has taken over.

        Args:
            successor: the name of a folder beside that of the run, which leads there.
            known: the scheduler knows this client.
        """
        if self.connection is not None:
            self._successor = self.connection.run_dir.parent / successor
        self.detach(known=known)

    def detach(self, *, known: bool) -> None:
        """Leave the folder; if the scheduler knows the client, say goodbye."""
        # Each step may be repeated, and what it ends is forgotten after it: this may be interrupted, and is called
        # again then.
        self.listens = False
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
        with suppress(OSError, OwnerAlive, NotInGroup):
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
        """Whether the run that the client has its place in has ended, or was replaced and ends, or lets none in."""
        if self._owner is None or self.connection is None:
            return False
        return not self._owner.alive or self.is_replaced or self.is_misplaced

    @property
    def is_final(self) -> bool:
        """Whether the client can be let in nowhere any more: this run was meant, is over, and was not replaced."""
        if not (self.by_path and self.is_over) or self.is_replaced or self.is_misplaced:
            return False
        if self.connection is None or self._found is None:
            return False
        # After the death of a shard, there is its front.
        return self._found == self.connection.run_dir or not isinstance(probe(self._found / LOCK), Alive)

    @property
    def is_misplaced(self) -> bool:
        """Whether the run turns out to be a front, which lets no client in: its door had been removed for a moment."""
        return self.connection is not None and is_front(self.connection.run_dir)

    @property
    def is_coming(self) -> bool:
        """Whether the run is there, and a place in it for the client will be: it is a front, and its shards start.

        The shard that was found may have ended since, and a dead one looks alive while others remove what it has left.
        """
        found = self._found
        return found is not None and is_front(found) and isinstance(probe(found / LOCK), Alive)

    @property
    def is_replaced(self) -> bool:
        """Whether another run has taken over, which can be found."""
        return self.follows and self.connection is not None and successor_of(self.connection.run_dir) is not None

    @property
    def scheduler_is_gone(self) -> bool:
        """Whether the scheduler that has let the client in has ended. (The next one says that it does not know it.)"""
        if self._scheduler is None:
            self.watch_scheduler()
        return self.is_over if self._scheduler is None else not self._scheduler.alive

    @property
    def is_stopped(self) -> bool:
        """Whether the run that the client has its place in was told to end, and no other one is there in its place."""
        if self._owner is None or self.connection is None:
            return False
        folder = self.connection.run_dir
        # Its folder goes at its end; that of a run which was killed stays, with the lock.
        ends = (folder / STOPPING).exists() or not (self._owner.alive or (folder / LOCK).exists())
        return ends and successor_of(folder) is None


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
            # What others fill is mapped for reading only: no mistake in this process can change an answer.
            fills = number < len(welcome.ingress)
            segment = segments.attach((address.kind, address.name), writable=fills, foreign=True)
        except SegmentForbidden as error:
            table.close()
            raise Unavailable(f"the pipeline's memory is closed to this client: {error}") from error
        except ShmError as error:
            table.close()
            if address.kind == FileSegment.kind and not os.path.isdir(os.path.dirname(address.name)):
                # It will not be there the next time either.
                raise Unavailable(f"the pipeline's memory cannot be attached: {error}") from error
            return None
        except OSError as error:
            table.close()
            raise Unavailable(f"the pipeline's memory cannot be attached: {error}; is `ulimit -n` reached?") from error
        table.add(segment)
        if fills:
            pools.append((segment.layout.slot_bytes, segment.number, segment.layout.slots))
            map_pages(segment)
    return Joined(welcome.interface, table, sorted(pools))
