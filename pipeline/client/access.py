"""Access: a client's place in the folder of a run, and what it is welcomed with.

    <run>/clients/<number>.lock     held for as long as this process may touch the client's slots
    <run>/clients/<number>.sock     the client's inbox
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.client.connection import Connection
from pipeline.errors import Unavailable
from pipeline.graph.plan import INGRESS, Plan
from pipeline.wire.labels import short_name
from pipeline.wire.messages import Hello, Welcome
from pipeline.wire.run_dir import LOCK, SCHEDULER_LOCK, find_run
from pipeline.wire.sockets import Inbox, address_of
from pipeline.wire.versions import OLD, OldHello
from shm import segments
from shm.errors import OwnerAlive, ShmError
from shm.owner import OwnerLock, OwnerWatch
from shm.placement import map_pages
from shm.view import SegmentTable

__all__ = ["Access", "Joined", "join"]

#: A hello that came to a scheduler which was about to die is lost.
_ASK_AGAIN_S = 0.5


class Access:
    """The way into a run.

    Args:
        run: the pipeline's name, the path of a run's folder, or None for the only one running.
        name: what the client is called.
    """

    def __init__(self, run: str | Path | None, name: object) -> None:
        self._run = run
        self._name = short_name(name)
        #: None while there is no place in any run's folder.
        self.connection: Connection | None = None
        self._inbox: Inbox | None = None
        #: When the scheduler was last spoken to without need.
        self.asked_at = 0.0
        #: The supervisor, and the scheduler that this client was let in by.
        self._owner: OwnerWatch | None = None
        self._scheduler: OwnerWatch | None = None

    @property
    def by_path(self) -> bool:
        """Whether one run is meant, and not whichever one has the name."""
        return self._run is not None and os.sep in str(self._run)

    @property
    def inbox(self) -> Inbox:
        """Where the scheduler's messages come in."""
        assert self._inbox is not None
        return self._inbox

    def attach(self) -> None:
        """Find the run, and be reachable in its folder.

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
            lock = OwnerLock.acquire(run_dir / "clients" / f"{number:x}.lock")
        except OSError as error:
            owner.close()
            raise Unavailable(f"no pipeline runs in {run_dir}: {error}") from error
        inbox = None
        try:
            inbox = Inbox(address_of(run_dir, f"clients/{number:x}"), signalled=True)
            self.connection = Connection(run_dir, number, lock)
        except BaseException:
            if inbox is not None:
                inbox.close()
            lock.release()
            owner.close()
            raise
        self._inbox, self._owner = inbox, owner
        self.asked_at = 0.0

    def detach(self, *, known: bool) -> None:
        """Leave the folder, and say goodbye where the scheduler knows the client."""
        # Each step may be repeated, and is forgotten after it: this may be interrupted, and is called again then.
        if self._inbox is not None:
            self._inbox.close()
        if self.connection is not None:
            self.connection.leave(known)
        for watch in (self._owner, self._scheduler):
            if watch is not None:
                watch.close()
        self._inbox = self.connection = self._owner = self._scheduler = None

    def hello(self, now: float, answered: bool) -> None:
        """Ask to be let in, unless that was done a moment ago. `now`: monotonic seconds.

        Args:
            answered: something has come from a scheduler of this version. If not, it may be of an old one.
        """
        if self.connection is not None and now - self.asked_at > _ASK_AGAIN_S:
            again, self.asked_at = bool(self.asked_at), now
            self._renew()
            self.connection.send(Hello(self.connection.number, self._name))
            if again and not answered:
                for protocol in OLD:
                    self.connection.send(OldHello(protocol, self.connection.number, self._name))

    def may_ask(self, now: float) -> bool:
        """Whether it is time to speak to the scheduler without need; it is no more for a while."""
        if now - self.asked_at <= _ASK_AGAIN_S:
            return False
        self.asked_at = now
        self._renew()
        return True

    def _renew(self) -> None:
        """Make anew what was removed of the client's lock and socket: the scheduler lets no client in without."""
        # The folder may be gone too: the supervisor makes it anew first.
        with suppress(OSError, OwnerAlive):
            if self.connection is not None:
                self.connection.renew_lock()
                self.inbox.renew()

    def watch_scheduler(self) -> None:
        """From now on `scheduler_is_gone` tells of the scheduler that has just let the client in."""
        if self._scheduler is not None:
            self._scheduler.close()
        self._scheduler = None
        if self.connection is not None:
            # Removed, or its owner has ended since: then it is tried again, or the supervisor has ended too.
            with suppress(OSError):
                self._scheduler = OwnerWatch(self.connection.run_dir / SCHEDULER_LOCK)

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


@dataclass(frozen=True, slots=True)
class Joined:
    """What a scheduler has let a client in to."""

    epoch: int
    plan: Plan
    table: SegmentTable
    pools: list[tuple[int, int, int]]
    """The ingress pools by rising slot size: (slot bytes, segment number, slots)."""


def join(welcome: Welcome) -> Joined | None:
    """Attach what a welcome names; None where that is gone already: the next scheduler names other segments."""
    table = SegmentTable()
    pools = []
    for address in welcome.pools:
        try:
            segment = segments.attach((address.kind, address.name))
        except ShmError:
            table.close()
            return None
        except OSError as error:
            table.close()
            raise Unavailable(f"the pipeline's memory cannot be attached: {error}; is `ulimit -n` reached?") from error
        table.add(segment)
        if address.pool.startswith(f"{INGRESS}/"):
            pools.append((segment.layout.slot_bytes, segment.number, segment.layout.slots))
            map_pages(segment)
    return Joined(welcome.epoch, Plan.from_json(welcome.plan), table, sorted(pools))
