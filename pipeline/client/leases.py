"""Leases: the slots of answers that arrays of this process still read. Pure.

The arrays of a result are plain numpy arrays, which can be neither exchanged nor made to raise once they are handed
out. So a slot is given back when the last array on it is gone, and not before, whatever has become of the result, of
the client, or of the block that it was used in:

    array ──base──▶ _Held ──▶ Lease ◀┄┄weak┄┄ ticket ── its callback ──▶ dropped ──Submit.releases──▶ scheduler
                                                        appends itself

A ticket gets into `dropped` without a line of Python being run: an exception that a signal's handler raises just then
cannot lose it. The last array may be dropped in any thread, by the collector too, and in the middle of a call of the
client's; the code that sends the releases must take care of that (`pipeline.client.connection`).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence

from pipeline.wire.messages import Bye, SlotRef, Submission, Submit

__all__ = ["Lease", "Leases"]


class Lease:
    """One borrowed slot of an answer. It is given back when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_leases", "armed", "slot")

    def __init__(self, slot: SlotRef, leases: Leases) -> None:
        self.slot = slot
        # Keeps the way to give the slot back alive for at least as long as the lease.
        self._leases = leases
        #: Whether its end will be noticed: `Leases.arm`.
        self.armed = False


class _Ticket(weakref.ref[Lease]):
    """Says which slot a lease was of when the lease is gone."""

    __slots__ = ("report", "slot")

    slot: SlotRef
    report: weakref.ref[Lease] | None


class _Epoch:
    """The leases of one epoch's slots."""

    __slots__ = ("dropped", "tickets")

    def __init__(self) -> None:
        #: Slots of leases that are gone and not reported yet.
        self.dropped: deque[_Ticket] = deque()
        #: Tickets of all leases that are not reported yet, so that their callbacks live.
        self.tickets: set[_Ticket] = set()


class Leases:
    """What one client of one run has borrowed, and up to which message it has read.

    It reports nothing by itself: a session puts what is gone into its next message, and `settle` is for a subclass
    that can send.

    Args:
        number: the client's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        #: Nothing is under way, so that no message is about to go that releases could share: they go at once.
        self.idle = True
        #: Leases are being dropped by a call that reports all of them at its end.
        self.held = False
        #: The number of the last `Answers` that was taken in.
        self.seen = 0
        self._epoch = _Epoch()

    def arm(self, lease: Lease) -> None:
        """From now on the end of `lease` gives its slot back. A second call does no harm."""
        if lease.armed:
            return
        epoch = self._epoch
        epoch.tickets.add(self._ticket(lease, epoch))
        lease.armed = True

    def _ticket(self, lease: Lease, epoch: _Epoch) -> _Ticket:
        # Of two callbacks the one that was made last is called first: the ticket is in `dropped` when it is looked at.
        report = weakref.ref(lease, _reporter(weakref.ref(self)))
        ticket = _Ticket(lease, epoch.dropped.append)
        ticket.slot = lease.slot
        ticket.report = report
        return ticket

    @property
    def count(self) -> int:
        """Slots of answers that this process still holds."""
        return len(self._epoch.tickets) - len(self._epoch.dropped)

    @property
    def dropped(self) -> bool:
        """Whether leases are gone that were not reported."""
        return bool(self._epoch.dropped)

    def renew(self) -> None:
        """Another scheduler has come, with other slots: none of the leases so far is of one of its slots."""
        self._epoch = _Epoch()
        self.seen = 0
        self.idle = True

    # -- what is said of them ---------------------------------------------------------------------

    def message(self, submissions: Sequence[Submission] = (), returned: Sequence[SlotRef] = ()) -> Submit | None:
        """Requests, and the slots that are given back: those in `returned`, and those of leases that are gone.

        None: there is nothing to say. `sent` forgets what it says of leases, and nothing does before.
        """
        dropped = tuple(self._epoch.dropped)
        if not (submissions or returned or dropped):
            return None
        releases = (*returned, *[ticket.slot for ticket in dropped])
        return Submit(self.number, self.seen, tuple(submissions), releases)

    def sent(self, message: Submit) -> None:
        """What `message` says of leases has been sent."""
        # After it was sent, and in this order: a release that is sent twice is refused and does no harm; a release that
        # is never sent keeps its slot.
        epoch = self._epoch
        if not epoch.dropped:
            return
        releases = set(message.releases)
        while epoch.dropped and (ticket := epoch.dropped[0]).slot in releases:
            epoch.tickets.discard(ticket)
            if epoch.dropped and epoch.dropped[0] is ticket:
                epoch.dropped.popleft()

    def goodbye(self) -> Bye:
        """The client's goodbye, naming the slots that arrays of this process still read."""
        return Bye(self.number, tuple([t.slot for t in tuple(self._epoch.tickets) if t() is not None]))

    @property
    def empty(self) -> bool:
        """Whether every lease is gone and reported."""
        return not self._epoch.tickets

    # -- when they are gone -----------------------------------------------------------------------

    def settle(self) -> None:
        """Report the leases that are gone, if there are any."""

    def settle_idle(self) -> None:
        """As `settle`, if no message is about to go that what is reported could share."""
        if self.idle:
            self.settle()

    def ended(self) -> None:
        """Called when a lease is gone, in whatever thread."""
        if not self.held:
            self.settle_idle()


def _reporter(leases: weakref.ref[Leases]) -> Callable[[object], None]:
    def report(_: object) -> None:
        found = leases()
        if found is not None:
            found.ended()

    return report
