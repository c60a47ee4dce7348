"""Asks: the callers of a session that want a slot, from their first message until they have one or give up. Pure.

    wait      Loan(wait) ──▶ its turn comes: a grant
                        └──▶ its time is over, or no slot can come: Loan(no wait), the scheduler's last word
    now       Loan(no wait) ──▶ a grant, or none; once more if requests were answered meanwhile

Without the last word, a grant could come when the client does not look any more, and would be kept from others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sized

from pipeline.client.ask import Ask
from pipeline.client.leases import Leases
from pipeline.client.slots import Slots
from pipeline.client.unread import Unread
from pipeline.errors import Overloaded, PipelineError
from pipeline.wire.codec import Sent
from pipeline.wire.messages import Loan

__all__ = ["Asks"]

#: A caller that has waited so long waits for slots that are not free: what this client holds without need goes back.
_SHORT_NS = 2_000_000

#: How long the scheduler may take to answer an ask that does not wait.
_SETTLED_NS = 1_000_000_000

#: How often a caller that has waited for long is checked again.
_LOOK_NS = 1_000_000_000


class Asks:
    """The asks of one client at one scheduler. `now` is monotonic nanoseconds in every call.

    Args:
        leases: the client's.
        slots: those that it may fill.
        under_way: its requests that are not answered.
        outgoing: the messages to send; asks are added to them.
        unread: its answers that were not read, whose slots are given back when slots are short.
        own_fault_ns: waiting for a slot so long, with nothing under way, means that the client itself holds them.
        number: of its last message to a scheduler before.
    """

    def __init__(
        self,
        leases: Leases,
        slots: Slots,
        under_way: Sized,
        outgoing: deque[Sent],
        unread: Unread,
        own_fault_ns: int,
        number: int,
    ) -> None:
        self.number = number
        self._leases = leases
        self._slots = slots
        self._under_way = under_way
        self._outgoing = outgoing
        self._unread = unread
        self._own_fault_ns = own_fault_ns
        self._asks: list[Ask] = []

    def __len__(self) -> int:
        return len(self._asks)

    @property
    def next_at(self) -> int | None:
        """When `go_on` has something to do, if nothing comes before; None: never."""
        return min(map(self._next_of, self._asks), default=None)

    def _next_of(self, ask: Ask) -> int:
        if ask.settles_at:
            return ask.settles_at
        if ask.looked_at < (short := ask.began + _SHORT_NS):
            return short if ask.end is None else min(short, ask.end)
        times = [max(ask.began + self._own_fault_ns, ask.looked_at + _LOOK_NS)]
        if (unread_at := self._unread.next_at) is not None:
            times.append(unread_at)
        if ask.end is not None:
            times.append(ask.end)
        return min(times)

    def are_short(self, now: int) -> bool:
        """Whether a caller has waited for so long that slots are short."""
        # A list, here and below: of a generator that a signal's handler ends by raising, Python complains.
        return bool([ask for ask in self._asks if not ask.settles_at and now - ask.began >= _SHORT_NS])

    # -- what callers say -----------------------------------------------------------------------

    def wait(self, segment: int, now: int, end: int | None) -> Ask:
        """See `Session.ask`."""
        ask = Ask(segment, now, True, end)
        ask.number = self._loan(segment, waits=True)
        self._asks.append(ask)
        return ask

    def now(self, segment: int, now: int) -> Ask | None:
        """See `Session.ask_now`."""
        if self._slots.looks_full(segment, len(self._under_way), now):
            return None
        return self._settling(Ask(segment, now, False), now)

    def give_up(self, segment: int, now: int, only: Ask | None) -> Ask:
        """See `Session.give_up`."""
        for ask in tuple(self._asks):
            if ask.segment == segment and only in (None, ask):
                ask.abandon()
                self._asks.remove(ask)
        last = Ask(segment, now, False)
        last.wanted = False
        return self._settling(last, now)

    def mend(self) -> None:
        """The callers were interrupted: they want nothing any more, and what was asked is settled."""
        self._asks.clear()
        for segment in tuple(self._slots.unsettled):
            self._loan(segment, waits=False)

    def fail(self, error: PipelineError) -> None:
        """No slot will come: the scheduler is gone, or has refused to give one."""
        for ask in self._asks:
            ask.answer(None, error)

    def _loan(self, segment: int, *, waits: bool) -> int:
        self.number += 1
        # Noted before it is sent: the next call settles what may have been sent.
        self._slots.unsettled[segment] = 0 if waits else self.number
        self._outgoing.append(Loan(self._leases.number, segment, self.number, waits))
        return self.number

    def _settling(self, ask: Ask, now: int) -> Ask:
        self._settle(ask, now)
        self._asks.append(ask)
        return ask

    def _settle(self, ask: Ask, now: int) -> None:
        """Ask for the scheduler's last word."""
        ask.under_way = len(self._under_way)
        ask.number = self._loan(ask.segment, waits=False)
        ask.settles_at = now + _SETTLED_NS

    # -- what comes of it -----------------------------------------------------------------------

    def go_on(self, now: int) -> None:
        """Settle the asks for which something has come."""
        for ask in tuple(self._asks):
            if ask.settles_at:
                self._settled(ask, now)
            else:
                self._waits(ask, now)
            if ask.done:
                self._asks.remove(ask)
        unsettled = self._slots.unsettled
        for segment, number in tuple(unsettled.items()):
            if 0 < number <= self._slots.settled:
                del unsettled[segment]
        for ask in self._asks:
            # One grant, or the last word to another ask, has ended the wait of all asks for that segment.
            if not ask.settles_at and ask.segment not in unsettled:
                ask.number = self._loan(ask.segment, waits=True)

    def _waits(self, ask: Ask, now: int) -> None:
        ask.looked_at = now
        if (grant := self._slots.free(ask.segment, self._leases.seen)) is not None:
            if self._slots.unsettled.get(ask.segment) == 0:
                del self._slots.unsettled[ask.segment]
            ask.answer(grant)
            return
        if now - ask.began >= _SHORT_NS:
            self._unread.move(now)
        if ask.end is not None and now >= ask.end:
            self._settle(ask, now)
        elif now - ask.began > self._own_fault_ns and not self._under_way:
            leases, drafts = self._leases.count, len(self._slots.drafts())
            if leases or drafts:
                ask.wanted = False
                ask.error = Overloaded(
                    f"no slot will become free: this client keeps {leases} slots of earlier results and {drafts} "
                    f"drafts or loans. Drop results when they are read (`with future.get() as result`), or copy what "
                    f"is needed; send drafts and loans, or give them back"
                )
                self._settle(ask, now)

    def _is_wanted(self, segment: int) -> bool:
        """Whether a caller waits for a slot of this segment."""
        return bool([ask for ask in self._asks if ask.wanted and ask.segment == segment])

    def _settled(self, ask: Ask, now: int) -> None:
        if self._slots.settled < ask.number and now < ask.settles_at:
            return
        grant = self._slots.free(ask.segment, self._leases.seen)
        if not ask.wanted:
            # Whatever has come for it, unless another caller waits for such a slot.
            if grant is not None and not self._is_wanted(ask.segment):
                self._slots.give_back(self._slots.unused(ask.segment))
            ask.answer(None, ask.error)
        elif grant is None and self._unread.move():
            # They may have held what is asked for.
            self._settle(ask, now)
        elif grant is not None or ask.waits:
            ask.answer(grant)
        elif len(self._under_way) != ask.under_way:
            # What was answered meanwhile may have made room.
            self._settle(ask, now)
        else:
            self._slots.was_full(ask.segment, ask.under_way, now)
            ask.answer(None)
