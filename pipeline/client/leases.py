"""Leases: the slots of answers that arrays of this process still read. Pure.

The arrays of a result are plain numpy arrays, which can be neither exchanged nor made to raise once they are handed
out. So a slot is given back when the last array on it is gone, and not before, whatever has become of the result, of
the client, or of the block that it was used in:

    array ──base──▶ _Held ──▶ Lease ◀┄┄weak┄┄ ticket ── its callback ──▶ dropped ──Submit.releases──▶ scheduler
                                                        appends itself

The same holds for a slot that the client still fills when it is closed: another thread may be in the middle of writing
it. Its lease lives until the last array on it is gone (`Leases.keep`):

    array ┄┄weak┄┄ _Written ──▶ Lease

A ticket gets into `dropped` without a line of Python being run: an exception that a signal's handler raises just then
cannot lose it. The last array may be dropped in any thread, by the collector too, and in the middle of a call of the
client's; the code that sends the releases must take care of that (`pipeline.client.connection`).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.client.copies import Copies
from pipeline.wire.messages import Bye, SlotRef, Submission, Submit

__all__ = ["Lease", "Leases"]


#: Results are views of their slots for as long as the client's earlier results are on less than this part of the
#: slots that clients fill.
_READ_PART = 8


class _Unread(Protocol):
    def are(self, count: int) -> bool: ...


class Lease:
    """One borrowed slot of an answer. It is given back when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_leases", "epoch", "read", "several", "slot")

    def __init__(self, slot: SlotRef, leases: Leases) -> None:
        self.slot = slot
        # Keeps the way to give the slot back alive for at least as long as the lease.
        self._leases = leases
        #: Those among which its end will be noticed; None: it will not yet (`Leases.arm`).
        self.epoch: _Epoch | None = None
        #: Whether an array of a result is on its slot.
        self.read = False
        #: Whether it is a slot of a request of several rows.
        self.several = False

    @property
    def armed(self) -> bool:
        """Whether its end will be noticed."""
        return self.epoch is not None


class _Ticket(weakref.ref[Lease]):
    """Says which slot a lease was of when the lease is gone."""

    __slots__ = ("report", "slot")

    slot: SlotRef
    report: weakref.ref[Lease] | None


class _Written(weakref.ref[NDArray[Any]]):
    """Has the lease of a slot live as long as an array over it, which itself can hold none."""

    __slots__ = ("lease",)

    lease: Lease

    # Those of an array compare its elements. These two are C, as is all that happens when the array is gone.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _Epoch:
    """The leases of one epoch's slots."""

    __slots__ = ("dropped", "read", "read_of_several", "tickets", "written")

    def __init__(self) -> None:
        #: Slots of leases that are gone and not reported yet.
        self.dropped: deque[_Ticket] = deque()
        #: Tickets of all leases that are not reported yet, so that their callbacks live.
        self.tickets: set[_Ticket] = set()
        #: The leases on which arrays of results are, of requests of one row and of several: each takes itself out.
        self.read: set[weakref.ref[Lease]] = set()
        self.read_of_several: set[weakref.ref[Lease]] = set()
        #: Of the slots that were being filled when the client was closed.
        self.written: set[_Written] = set()


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
        #: A caller waits for a slot: every slot that comes back is told of at once.
        self.short = False
        #: Answers that have come and were not read; None: it is not known of any.
        self.unread: _Unread | None = None
        #: Leases are being dropped by a call that reports all of them at its end.
        self.held = False
        #: The number of the last `Answers` that was taken in.
        self.seen = 0
        #: How many slots may be under arrays of results before the outputs of further results are copied.
        self.most_read = 1
        #: The same of requests of several rows, which have slots of their own.
        self.most_read_of_several = 1
        self.copies = Copies()
        self._epoch = _Epoch()
        self._on_end = _reporter(weakref.ref(self))

    def arm(self, lease: Lease) -> None:
        """From now on the end of `lease` gives its slot back. A second call does no harm."""
        if lease.epoch is not None:
            return
        epoch = self._epoch
        epoch.tickets.add(self._ticket(lease, epoch))
        lease.epoch = epoch

    def keep(self, slot: SlotRef, arrays: Iterable[NDArray[Any]]) -> None:
        """The client is closed, and arrays of a slot that it fills may still be written, by another thread: the slot is
        given back when the last array on it is gone.

        Args:
            arrays: those that the application has, each a view of the array that is made for its input. That one is the
                base of every other array on it, such as a slice.
        """
        epoch = self._epoch
        lease = Lease(slot, self)
        for array in arrays:
            written = _Written(array if array.base is None else array.base, epoch.written.discard)
            written.lease = lease
            epoch.written.add(written)
        self.arm(lease)

    def _ticket(self, lease: Lease, epoch: _Epoch) -> _Ticket:
        # Of two callbacks the one that was made last is called first: the ticket is in `dropped` when it is looked at.
        report = weakref.ref(lease, self._on_end)
        ticket = _Ticket(lease, epoch.dropped.append)
        ticket.slot = lease.slot
        ticket.report = report
        return ticket

    @property
    def count(self) -> int:
        """Slots of answers that this process still holds."""
        return len(self._epoch.tickets) - len(self._epoch.dropped)

    def limit_reading(self, slots: Sequence[int], by_rows: bool = False) -> None:
        """Let arrays of results be on an eighth of the slots, and on one at least; results beyond are copies.

        Args:
            slots: of each segment that the client fills, by rising slot size.
            by_rows: the last one is for requests of several rows: it counts by itself.
        """
        of_several = slots[-1] if by_rows else 0
        self.most_read = max(1, (sum(slots) - of_several) // _READ_PART)
        self.most_read_of_several = max(1, of_several // _READ_PART)

    def read_enough(self, several: bool = False) -> bool:
        """Whether arrays of results are on as many slots as may be: of requests of one row, or of several."""
        if several:
            return len(self._epoch.read_of_several) >= self.most_read_of_several
        return len(self._epoch.read) >= self.most_read

    def reads(self, lease: Lease) -> None:
        """An array of a result is on the slot of `lease`. A second call does nothing."""
        if lease.read or (epoch := lease.epoch) is None:
            return
        # Counted here, and not by a search for each result. Like a ticket, it goes without a line of Python being run.
        read = epoch.read_of_several if lease.several else epoch.read
        read.add(weakref.ref(lease, read.discard))
        lease.read = True

    @property
    def dropped(self) -> bool:
        """Whether leases are gone that were not reported."""
        return bool(self._epoch.dropped)

    @property
    def due(self) -> bool:
        """Whether leases are gone that must be told of now, in a message of their own if need be."""
        return self.idle and bool(self._epoch.dropped)

    @property
    def in_no_hurry(self) -> bool:
        """Whether what is gone may wait for more of it, though nothing is under way: as many answers are still to be
        read, which hold as many slots. So a caller that reads a row of answers sends few messages, and not one each."""
        unread = self.unread
        return unread is not None and not self.short and unread.are(len(self._epoch.dropped))

    def renew(self) -> None:
        """Another scheduler has come, with other slots: none of the leases so far is of one of its slots."""
        self._epoch = _Epoch()
        self.seen = 0
        self.idle = True
        self.short = False

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
        """The client's goodbye, naming the slots that arrays of this process still read or write."""
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
        if self.idle and not self.in_no_hurry:
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
