"""Ingress: who may fill which slot, client by client.

A client says how many slots of each ingress pool it wants to hold (its level); free slots are
granted in turn among those who hold fewer than they want. Pure, apart from the pools' own tables.

Two bounds keep one client from taking what others need: its quota of each pool, and its share of the
requests that may be inside, where an answer that it has not released counts as one that still is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pipeline.wire.messages import SlotRef
from shm.pool import SlotPool

__all__ = ["Client", "Ingress"]


class Client:
    """One connected client."""

    __slots__ = ("borrowed", "granted", "level", "name", "number", "out", "requests")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        #: Wanted slots, by the number of their segment.
        self.level: dict[int, int] = {}
        #: Slots of each ingress segment that it has out, in whatever state.
        self.out: dict[int, int] = {}
        #: Slots that it may fill.
        self.granted: set[SlotRef] = set()
        #: Slots of answers that it still reads.
        self.borrowed: set[SlotRef] = set()
        #: Requests that it waits for.
        self.requests: set[int] = set()


class Ingress:
    """All clients, and the pools they fill."""

    def __init__(self, pools: Mapping[int, SlotPool], leases_per_answer: int) -> None:
        """
        Args:
            pools: those that clients fill, by the numbers of their segments.
            leases_per_answer: how many slots one answer refers to.
        """
        self._pools = pools
        self._leases_per_answer = max(1, leases_per_answer)
        self.clients: dict[int, Client] = {}
        #: For each segment, the clients that want more of it, in turn.
        self._waiting: dict[int, deque[Client]] = {segment: deque() for segment in pools}

    def join(self, number: int, name: str) -> Client:
        """A client has said hello."""
        client = self.clients[number] = Client(number, name)
        return client

    def leave(self, number: int) -> Client | None:
        """A client has gone: it waits for no slot any more. None where it is not known."""
        client = self.clients.pop(number, None)
        if client is not None:
            for waiting in self._waiting.values():
                if client in waiting:
                    waiting.remove(client)
        return client

    def quota(self, segment: int) -> int:
        """How many slots of a segment one client may have out.

        A quarter is kept back from a client that is alone, and all share alike as soon as there are
        several: one that never gives anything back exhausts its own quota, and nobody else's.
        """
        return self._part(self._pools[segment].slots)

    def share(self) -> int:
        """How many requests one client may have inside, answers that it keeps included; parted as `quota`."""
        return self._part(sum([pool.slots for pool in self._pools.values()]))

    def _part(self, whole: int) -> int:
        return max(1, min(whole - whole // 4, whole // max(1, len(self.clients))))

    def _inside(self, client: Client) -> int:
        answers = -(-len(client.borrowed) // self._leases_per_answer)
        return len(client.granted) + len(client.requests) + answers

    def want(self, client: Client, segment: int, level: int) -> bool:
        """Set a client's level; False where the segment is not one that clients fill."""
        if segment not in self._pools:
            return False
        client.level[segment] = level
        if client not in self._waiting[segment]:
            self._waiting[segment].append(client)
        return True

    def grants(self) -> list[tuple[Client, SlotRef]]:
        """Give every free slot to the next client that wants one."""
        granted = []
        share = self.share()
        for segment, waiting in self._waiting.items():
            pool = self._pools[segment]
            quota = self.quota(segment)
            # Each client is passed at most once after the last grant: those at their level drop out.
            while waiting and pool.free:
                client = waiting.popleft()
                out = client.out.get(segment, 0)
                if out >= min(client.level.get(segment, 0), quota) or self._inside(client) >= share:
                    # Back in the row when something of its own comes back: see `wake`.
                    continue
                slot, generation = pool.loan()
                lease = SlotRef(segment, slot, generation)
                client.out[segment] = out + 1
                client.granted.add(lease)
                waiting.append(client)
                granted.append((client, lease))
        return granted

    def came_back(self, client: Client, lease: SlotRef) -> None:
        """An ingress slot that `client` had out is free again; it may be granted once more."""
        client.out[lease.segment] -= 1

    def wake(self, client: Client) -> None:
        """Something of a client's has ended, so it may hold more again."""
        for segment, waiting in self._waiting.items():
            if client.level.get(segment, 0) > client.out.get(segment, 0) and client not in waiting:
                waiting.append(client)
