"""Access: a client's place in the folder of a run, and what it is welcomed with.

    <run>/clients/<number>.lock     held for as long as this process may touch the client's slots
    <run>/clients/<number>.sock     the client's inbox
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.client.connection import Connection
from pipeline.errors import Unavailable
from pipeline.graph.plan import INGRESS, Plan
from pipeline.wire.messages import Hello, Welcome
from pipeline.wire.run_dir import LOCK, find_run
from pipeline.wire.sockets import Inbox, address_of
from shm import segments
from shm.errors import ShmError
from shm.owner import Alive, Dead, OwnerLock, probe
from shm.placement import map_pages
from shm.view import SegmentTable

__all__ = ["Access", "Joined", "join"]

#: A hello that came to a scheduler which was about to die is lost.
_ASK_AGAIN_S = 0.5

#: A lock file that is not there was removed by its owner at its end, or by a program that cleans up: then its owner
#: makes it anew within this time.
_MISSING_S = 1.0


class Access:
    """The way into a run.

    Args:
        run: the pipeline's name, the path of a run's folder, or None for the only one running.
        name: what the client is called.
    """

    def __init__(self, run: str | Path | None, name: str) -> None:
        self._run = run
        self._name = name
        #: None while there is no place in any run's folder.
        self.connection: Connection | None = None
        self._inbox: Inbox | None = None
        #: When the scheduler was last spoken to without need.
        self.asked_at = 0.0
        #: Since when a lock file that should be there is not.
        self._missing_since = 0.0

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
            lock = OwnerLock.acquire(run_dir / "clients" / f"{number:x}.lock")
        except OSError as error:
            raise Unavailable(f"no pipeline runs in {run_dir}: {error}") from error
        inbox = None
        try:
            inbox = Inbox(address_of(run_dir, f"clients/{number:x}"))
            self.connection = Connection(run_dir, number, lock)
        except BaseException:
            if inbox is not None:
                inbox.close()
            lock.release()
            raise
        self._inbox = inbox
        self.asked_at = self._missing_since = 0.0

    def detach(self, *, known: bool) -> None:
        """Leave the folder, and say goodbye where the scheduler knows the client."""
        connection, self.connection = self.connection, None
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.close()
        if connection is not None:
            connection.leave(known)

    def hello(self, now: float) -> None:
        """Ask to be let in, unless that was done a moment ago. `now`: monotonic seconds."""
        if self.connection is not None and now - self.asked_at > _ASK_AGAIN_S:
            self.asked_at = now
            self.connection.send(Hello(self.connection.number, self._name))

    def may_ask(self, now: float) -> bool:
        """Whether it is time to speak to the scheduler without need; it is no more for a while."""
        if now - self.asked_at <= _ASK_AGAIN_S:
            return False
        self.asked_at = now
        return True

    @property
    def is_over(self) -> bool:
        """Whether the run that the client has its place in has ended."""
        return self.connection is not None and not isinstance(probe(self.connection.run_dir / LOCK), Alive)

    def is_gone(self, lock: str) -> bool:
        """Whether the owner of a lock file in the run's folder has ended; one that is missing is waited for a while."""
        assert self.connection is not None
        state = probe(self.connection.run_dir / lock)
        now = time.monotonic()
        if isinstance(state, Alive):
            self._missing_since = 0.0
        elif isinstance(state, Dead):
            return True
        elif not self._missing_since:
            self._missing_since = now
        return bool(self._missing_since) and now - self._missing_since > _MISSING_S


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
        table.add(segment)
        if address.pool.startswith(f"{INGRESS}/"):
            pools.append((segment.layout.slot_bytes, segment.number, segment.layout.slots))
            map_pages(segment)
    return Joined(welcome.epoch, Plan.from_json(welcome.plan), table, sorted(pools))
