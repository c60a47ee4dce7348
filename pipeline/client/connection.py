"""Connection: what a client holds of a pipeline, and what outlives it: its lock, its way to the scheduler, its leases.

The arrays of a result are plain numpy arrays, which can be neither exchanged nor made to raise once they are handed
out. So a slot is given back when the last array on it is gone, and not before, whatever has become of the result, of
the client, or of the block that it was used in:

    array ──base──▶ _Held ──▶ Lease ◀┄┄weak┄┄ ticket ── its callback ──▶ dropped ──Submit.releases──▶ scheduler
                                                        appends itself

A ticket gets into `dropped` without a line of Python being run: an exception that a signal's handler raises just then
cannot lose it. The last array may be dropped in any thread, by the collector too, and in the middle of a call of the
client's; so what is sent is sent under a mutex, and a thread that has it already reports the ticket when it lets go.

Where the client is closed and arrays of its process live on, so does the connection, without an inbox, until the last
of them is gone.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import ClientMisuse
from pipeline.wire.codec import Sent
from pipeline.wire.messages import Bye, SlotRef, Submission, Submit
from pipeline.wire.run_dir import SCHEDULER_LOCK
from pipeline.wire.sockets import Outbox, address_of
from shm.owner import Dead, OwnerLock, probe

__all__ = ["Connection", "Lease"]

#: So long a goodbye may take to leave this process.
_GOODBYE_MS = 200


class Lease:
    """One borrowed slot of an answer. It is given back when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_connection", "armed", "slot")

    def __init__(self, slot: SlotRef, connection: Connection) -> None:
        self.slot = slot
        # The way to give the slot back lives at least as long as the lease.
        self._connection = connection
        #: Whether its end will be noticed: `Connection.arm`.
        self.armed = False


class _Ticket(weakref.ref[Lease]):
    """Says which slot a lease was of when the lease is gone."""

    __slots__ = ("report", "slot")

    slot: SlotRef
    report: weakref.ref[Lease] | None


class _Leases:
    """The leases of one epoch's slots."""

    __slots__ = ("dropped", "tickets")

    def __init__(self) -> None:
        #: Of leases that are gone and not reported yet.
        self.dropped: deque[_Ticket] = deque()
        #: Of all leases that are not reported yet, so that their callbacks live.
        self.tickets: set[_Ticket] = set()


class Connection:
    """One client's number, lock, way to the scheduler, and leases.

    Args:
        run_dir: of the run.
        number: the client's.
        lock: held; it says that this process may still touch the client's slots.
    """

    def __init__(self, run_dir: Path, number: int, lock: OwnerLock) -> None:
        self.run_dir = run_dir
        self.number = number
        #: The process that it belongs to is another one: the child of a fork owns nothing of its parent's.
        self.forked = False
        #: Nothing is under way, so that no message is about to go that releases could share: they go at once.
        self.idle = True
        #: Leases are being dropped by a call that reports all of them at its end.
        self.held = False
        #: The number of the last `Answers` that was taken in.
        self.seen = 0
        self._lock = lock
        self._scheduler = Outbox(address_of(run_dir, "scheduler"))
        self._mutex = threading.Lock()
        #: The thread that has the mutex.
        self._holder = 0
        self._leases = _Leases()
        self._left = False
        self._ended = False
        _connections.add(self)

    # -- leases -----------------------------------------------------------------------------------

    def arm(self, lease: Lease) -> None:
        """From now on the end of `lease` gives its slot back. Again: nothing that matters."""
        if lease.armed:
            return
        leases = self._leases
        leases.tickets.add(self._ticket(lease, leases))
        lease.armed = True

    def _ticket(self, lease: Lease, leases: _Leases) -> _Ticket:
        # Of two callbacks the one that was made last is called first: the ticket is in `dropped` when it is looked at.
        report = weakref.ref(lease, _reporter(weakref.ref(self)))
        ticket = _Ticket(lease, leases.dropped.append)
        ticket.slot = lease.slot
        ticket.report = report
        return ticket

    @property
    def leases(self) -> int:
        """Slots of answers that this process still holds."""
        return len(self._leases.tickets) - len(self._leases.dropped)

    def renew(self) -> None:
        """The scheduler is another one, with other slots: the leases so far are of no slot of its."""
        self._leases = _Leases()
        self.seen = 0
        self.idle = True

    def renew_lock(self) -> None:
        """Make the lock's file anew where it was removed. Raises as `OwnerLock.renew`."""
        self._lock.renew()

    # -- what is sent -------------------------------------------------------------------------------
    #
    # The mutex is taken by a plain `with`, and by no context manager of ours: a signal's handler that raises at the
    # entry of such a one's `__exit__` would leave it locked.

    def send(self, message: Sent) -> None:
        """Send a message of the client's."""
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            self._scheduler.send(message)
            self._holder = 0
        if self.idle:
            self.settle()

    def submit(self, submissions: Sequence[Submission] = (), returned: Sequence[SlotRef] = ()) -> None:
        """Send requests and the slots that are given back: those in `returned`, and those of leases that are gone."""
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            self._submit(submissions, returned)
            self._holder = 0
        self.settle()

    def settle(self) -> None:
        """Report the leases that are gone, if there are any."""
        while self._leases.dropped and not self._ended:
            self.submit_dropped()
        if self._left and not self._leases.tickets:
            self._end()

    def submit_dropped(self) -> None:
        """Report the leases that are gone by now."""
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            self._submit((), ())
            self._holder = 0

    def settle_idle(self) -> None:
        """As `settle`, where no message is about to go that what is reported could share."""
        if self.idle or self._left:
            self.settle()

    def lease_ended(self) -> None:
        """Called when a lease is gone, in whatever thread: report it, unless a message is about to go with it."""
        if self.held or not (self.idle or self._left) or sys.is_finalizing():
            return
        # In the middle of a message of this thread's, it is reported after that.
        if not (self._holder == threading.get_ident() and self._mutex.locked()):
            try:
                self.settle()
            except KeyboardInterrupt:
                # What is raised in a callback is shown and forgotten: the Ctrl-C comes again, where it counts.
                _thread.interrupt_main()

    def _refuse_nested(self) -> None:
        # A holder that was interrupted is still written here, but the mutex is free then, or another thread's.
        if self._holder == threading.get_ident() and self._mutex.locked():
            raise ClientMisuse("a client was used by a signal's handler while it was sending; set a flag there instead")

    def _submit(self, submissions: Sequence[Submission], returned: Sequence[SlotRef]) -> None:
        leases = self._leases
        dropped = tuple(leases.dropped)
        if not (submissions or returned or dropped):
            return
        releases = (*returned, *(ticket.slot for ticket in dropped))
        self._scheduler.send(Submit(self.number, self.seen, tuple(submissions), releases))
        # After it was sent, and in this order: a release that is sent twice is refused and does no harm, one that is
        # not sent at all keeps its slot.
        for ticket in dropped:
            leases.tickets.discard(ticket)
            if leases.dropped and leases.dropped[0] is ticket:
                leases.dropped.popleft()

    # -- the end ------------------------------------------------------------------------------------

    def leave(self, known: bool) -> None:
        """The client is closed. What arrays of this process still read stays leased until they are gone.

        Args:
            known: the scheduler knows this client.
        """
        if self.forked or self._ended:
            return
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            if known and not self._scheduler.closed:
                self._submit((), ())
                kept = tuple(ticket.slot for ticket in tuple(self._leases.tickets) if ticket() is not None)
                if kept:
                    self._scheduler.send(Bye(self.number, kept))
            else:
                self._leases = _Leases()
            self._left = True
            self._holder = 0
        self.settle()

    def _end(self) -> None:
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            if self._ended:
                self._holder = 0
                return
            # Each step may be repeated: this may be interrupted, and is begun again then.
            if not self._scheduler.closed:
                # What is said to no one would be kept for those 200 ms, and this process with it where it ends.
                there = not isinstance(probe(self.run_dir / SCHEDULER_LOCK), Dead)
                if there:
                    self._scheduler.send(Bye(self.number, ()))
                self._scheduler.close(linger_ms=_GOODBYE_MS if there else 0)
            # After that: the lock says that this process may still touch slots.
            self._lock.release()
            self._ended = True
            self._holder = 0

    def forget(self) -> None:
        """This process is the child of a fork: it has a copy of everything, and may touch nothing of it."""
        self.forked = True
        # A mutex that another thread of the parent held would never be free here.
        self._mutex = threading.Lock()
        self._ended = True


def _reporter(connection: weakref.ref[Connection]) -> Callable[[object], None]:
    def report(_: object) -> None:
        found = connection()
        if found is not None:
            found.lease_ended()

    return report


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_all() -> None:
    for connection in tuple(_connections):
        connection.forget()


os.register_at_fork(after_in_child=_forget_all)
