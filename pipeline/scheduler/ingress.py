"""Ingress: which client may fill which slot.

A client asks for a slot when it is about to fill it (`Loan`). Asks that wait are served in turn. Slots that are then
still free are granted unasked, so that a client that sends one request after the other need not ask each time:

    asked      one slot for each ask that waits, and for each ask that does not wait if a slot is free
    ahead      with an ask, as many more as the client has out already: it doubles what it works with
    renewed    one for each slot that was read, if its client has more under way, and one with its last answer

What is granted unasked wakes no client in the middle of its requests: it goes with the client's next answer, or with
the next slot that the client asks for. If neither comes for `RIDE_NS`, it goes alone.

The scheduler cannot take a grant back: a client that was stopped in the middle of a write goes on with it later, and a
client that waits for its user reads no message. So the scheduler bounds what it grants unasked, by the slots that
clients have *in hand*, that is, granted and not submitted: a quarter of the segment's slots, half of that if the client
has nothing more under way and may fall idle, and none of a segment of few slots. However many clients are idle or
stopped, the rest is there for the others.

Two more bounds keep one client from taking what others need: its quota of each segment, and its share of the requests
that may be inside. An answer that the client has not released counts as a request inside. Pure, apart from the pools'
own tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping

from pipeline.wire.limits import FEW_SLOTS
from pipeline.wire.messages import Answers, SlotRef
from shm.layout import ceil_div
from shm.pool import SlotPool

__all__ = ["RIDE_NS", "Client", "Ingress"]

RIDE_NS = 50_000_000
"""How long what is granted unasked waits for a message to go with."""


class Client:
    """One connected client."""

    __slots__ = (
        "asks", "borrowed", "filled", "granted", "last_tag", "leaving", "name", "number", "out", "requests", "sent",
        "settled", "several", "unasked", "unasked_until", "unread",
    )  # fmt: skip

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        #: Segments of which it waits for a slot.
        self.asks: set[int] = set()
        #: The number of the last of its asks that do not wait.
        self.settled = 0
        #: How many slots of each segment it may be granted unasked, and when they wait for company no longer.
        self.unasked: dict[int, int] = {}
        self.unasked_until = 0
        #: Slots of each ingress segment that it has out, in whatever state.
        self.out: dict[int, int] = {}
        #: Slots that it may fill.
        self.granted: set[SlotRef] = set()
        #: Slots of answers that it still reads; once it has said goodbye, also slots that it may still write.
        self.borrowed: set[SlotRef] = set()
        #: Requests that it waits for.
        self.requests: set[int] = set()
        #: Those of them that are of several rows.
        self.several: set[int] = set()
        #: The tag of its last submission, and the segment that it filled a slot of.
        self.last_tag = 0
        self.filled = 0
        #: How many `Answers` it was sent, and the ones that it has not confirmed.
        self.sent = 0
        self.unread: deque[Answers] = deque()
        #: It has said goodbye, and arrays of its process are still on slots.
        self.leaving = False

    @property
    def active(self) -> bool:
        """Whether it does something, or keeps slots that others could use. An idle client may keep one slot in hand."""
        return bool(self.requests or self.borrowed or self.asks) or len(self.granted) > 1

    def confirm(self, seen: int) -> None:
        """It has taken in every `Answers` up to number `seen`."""
        unread = self.unread
        while unread and unread[0].number <= seen:
            unread.popleft()


class Ingress:
    """All clients, and the pools they fill."""

    def __init__(self, pools: Mapping[int, SlotPool], leases_per_answer: int, several: Container[int] = ()) -> None:
        """
        Args:
            pools: the pools that clients fill, by the numbers of their segments.
            leases_per_answer: how many slots one answer refers to.
            several: the segments, of clients and of stages, whose slots are for requests of several rows.
        """
        self._several = several
        self._pools = pools
        self._leases_per_answer = max(1, leases_per_answer)
        self.clients: dict[int, Client] = {}
        #: Those for requests of several rows bound these alone: see `_has_share`.
        self._slots = sum([pool.slots for segment, pool in pools.items() if segment not in several])
        #: For each segment, the clients whose ask waits, in turn.
        self._waiting: dict[int, deque[Client]] = {segment: deque() for segment in pools}
        #: For each segment, asks that are decided by the next `grants`.
        self._now: dict[int, list[tuple[Client, int]]] = {segment: [] for segment in pools}
        #: The clients to which slots may be granted unasked.
        self._unasked: dict[Client, None] = {}
        #: For each segment, how many slots are granted and not submitted.
        self.in_hand = dict.fromkeys(pools, 0)
        #: Clients whose asks have been decided, whether they were granted a slot or not.
        self._settled: list[Client] = []

    def join(self, number: int, name: str) -> Client:
        """A client has said hello."""
        client = self.clients[number] = Client(number, name)
        return client

    def leave(self, number: int) -> Client | None:
        """A client has gone: it waits for no slot any more. None if it is not known."""
        client = self.clients.pop(number, None)
        if client is not None:
            self._forget_asks(client)
        return client

    def quota(self, segment: int) -> int:
        """How many slots of a segment one client may have out.

        A client that is alone may not have the last quarter, and active clients have equal shares. So a client that
        never gives a slot back exhausts its own quota, and no other client's.
        """
        return _part(self._pools[segment].slots, self._active())

    def share(self) -> int:
        """How many requests one client may have inside, with the answers that it keeps; shared out as `quota`."""
        return _part(self._slots, self._active())

    def _active(self) -> int:
        return len([client for client in self.clients.values() if client.active])

    def _has_share(self, client: Client, segment: int, share: int) -> bool:
        """Whether a client has its share of requests inside, of the kind that slots of a segment are for.

        There is a slot for the answer of each request of several rows that can be inside, and for no more of them
        (`pipeline.graph.pools`): so they have a share of their own, of their own slots.
        """
        if segment not in self._several:
            return self._inside(client) >= share
        answers = sum([lease.segment in self._several for lease in client.borrowed])
        granted = sum([lease.segment == segment for lease in client.granted])
        inside = granted + len(client.several) + ceil_div(answers, self._leases_per_answer)
        return inside >= _part(self._pools[segment].slots, self._active())

    def _inside(self, client: Client) -> int:
        answers = ceil_div(len(client.borrowed), self._leases_per_answer)
        return len(client.granted) + len(client.requests) + answers

    def keeps_share(self, client: Client) -> bool:
        """Whether a client has all that it may have, and nothing under way."""
        return client.active and not client.requests and self._inside(client) >= self.share()

    def ask(self, client: Client, segment: int, ask: int, wait: bool) -> bool:
        """A client wants a slot; False if the segment is not one that clients fill, or the client is leaving."""
        if segment not in self._pools or client.leaving:
            return False
        if wait:
            if segment not in client.asks:
                client.asks.add(segment)
                self._waiting[segment].append(client)
        else:
            if segment in client.asks:
                client.asks.remove(segment)
                self._waiting[segment].remove(client)
            self._now[segment].append((client, ask))
        return True

    def grants(self, now: int, told: Container[int] = ()) -> list[tuple[Client, SlotRef]]:
        """Give free slots to the clients that ask, in turn, and then to those that may have them unasked.

        Args:
            now: monotonic nanoseconds.
            told: numbers of the clients that are sent a message anyway.
        """
        granted: list[tuple[Client, SlotRef]] = []
        asked: set[Client] = set()
        if not (self._unasked or any(self._waiting.values()) or any(self._now.values())):
            return granted
        # Once a call, and not for each client that is looked at: there may be many.
        active = self._active()
        share = _part(self._slots, active)
        for segment, pool in self._pools.items():
            waiting, at_once = self._waiting[segment], self._now[segment]
            if not (waiting or at_once):
                continue
            if pool.free:
                quota = _part(pool.slots, active)
                # Each client is looked at once: one that has its quota keeps its place, and others overtake it.
                for client in tuple(waiting):
                    if pool.free and self._may_have(client, segment, quota, share):
                        waiting.remove(client)
                        client.asks.remove(segment)
                        self._answer(client, segment, granted)
                        asked.add(client)
                for client, _ in at_once:
                    if pool.free and self._may_have(client, segment, quota, share):
                        self._answer(client, segment, granted)
            for client, ask in at_once:
                client.settled = max(client.settled, ask)
                self._settled.append(client)
                asked.add(client)
            at_once.clear()
        if self._unasked:
            self._grant_unasked(now, told, asked, granted, active)
        return granted

    def _answer(self, client: Client, segment: int, granted: list[tuple[Client, SlotRef]]) -> None:
        granted.append((client, self._grant(client, segment)))
        self._may_take(client, segment, client.out[segment] - 1)

    def _may_take(self, client: Client, segment: int, count: int) -> None:
        """A client may be granted so many slots more, unasked."""
        if count > 0:
            client.unasked[segment] = client.unasked.get(segment, 0) + count
            self._unasked[client] = None

    def _grant_unasked(
        self, now: int, told: Container[int], asked: set[Client], granted: list[tuple[Client, SlotRef]], active: int
    ) -> None:
        share = _part(self._slots, active)
        for client in tuple(self._unasked):
            if not (client.number in told or client in asked):
                if not client.unasked_until:
                    client.unasked_until = now + RIDE_NS
                if now < client.unasked_until:
                    continue
            del self._unasked[client]
            client.unasked_until = 0
            for segment, count in client.unasked.items():
                pool = self._pools[segment]
                quota = _part(pool.slots, active)
                while (
                    count > 0
                    and pool.free
                    and self._may_have_unasked(client, segment)
                    and self._may_have(client, segment, quota, share)
                ):
                    granted.append((client, self._grant(client, segment)))
                    count -= 1
            client.unasked.clear()

    def _may_have(self, client: Client, segment: int, quota: int, share: int) -> bool:
        return client.out.get(segment, 0) < quota and not self._has_share(client, segment, share)

    def _may_have_unasked(self, client: Client, segment: int) -> bool:
        slots = self._pools[segment].slots
        if slots < FEW_SLOTS:
            return False
        most = max(2, slots // 4)
        if client.requests or client.granted:
            return self.in_hand[segment] < most
        return self.in_hand[segment] < most // 2

    def _grant(self, client: Client, segment: int) -> SlotRef:
        slot, generation = self._pools[segment].loan()
        lease = SlotRef(segment, slot, generation)
        client.out[segment] = client.out.get(segment, 0) + 1
        client.granted.add(lease)
        self.in_hand[segment] += 1
        return lease

    def settled(self) -> list[Client]:
        """The clients of which an ask that does not wait was decided since the last call."""
        settled, self._settled = self._settled, []
        return [client for client in settled if client.number in self.clients]

    def submitted(self, client: Client, lease: SlotRef) -> None:
        """A client has submitted a slot that it filled: the slot is no longer in its hand."""
        client.filled = lease.segment
        self.taken_back(client, lease)

    def taken_back(self, client: Client, lease: SlotRef) -> None:
        """A client may not fill a slot any more that it was granted."""
        client.granted.remove(lease)
        self.in_hand[lease.segment] -= 1

    def came_back(self, client: Client, lease: SlotRef) -> None:
        """An ingress slot that a client had out is free. It is renewed if the client has more than this under way."""
        client.out[lease.segment] -= 1
        if len(client.requests) > 1 and not client.leaving:
            self._may_take(client, lease.segment, 1)

    def finished(self, client: Client) -> None:
        """The last of a client's requests is answered: a slot for its next one may go with the answer, and no more
        than that."""
        client.unasked.clear()
        if not client.granted and client.filled and not client.leaving:
            self._may_take(client, client.filled, 1)

    def lingers(self, client: Client) -> None:
        """A client has said goodbye, and its process still touches slots: it is granted nothing more."""
        client.leaving = True
        # What it has out is not counted any more, since it is granted nothing in exchange.
        client.out.clear()
        self._forget_asks(client)

    def _forget_asks(self, client: Client) -> None:
        for segment in client.asks:
            self._waiting[segment].remove(client)
        client.asks.clear()
        for asks in self._now.values():
            asks[:] = [entry for entry in asks if entry[0] is not client]
        client.unasked.clear()
        self._unasked.pop(client, None)


def _part(whole: int, active: int) -> int:
    """Of so many, what one of the active clients may have."""
    return max(1, min(whole - whole // 4, whole // max(1, active)))
