"""Ingress: who may fill which slot, client by client.

A client says how many slots of each ingress pool it wants to hold (its level); free slots are
granted in turn among those who hold fewer than they want. Pure, apart from the pools' own tables.

Two bounds keep one client from taking what others need: its quota of each pool, and its share of the
requests that may be inside, where an answer that it has not released counts as one that still is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pipeline.scheduler.ledger import Lease
from shm.pool import SlotPool

__all__ = ["Client", "Ingress"]


class Client:
    """One connected client."""

    __slots__ = ("borrowed", "granted", "level", "name", "number", "out", "requests")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        #: Wanted slots, by pool.
        self.level: dict[int, int] = {}
        #: Slots of each ingress pool that it has out, in whatever state.
        self.out: dict[int, int] = {}
        #: Slots that it may fill.
        self.granted: set[Lease] = set()
        #: Slots of answers that it still reads.
        self.borrowed: set[Lease] = set()
        #: Requests that it waits for.
        self.requests: set[int] = set()


class Ingress:
    """All clients, and the pools they fill."""

    def __init__(self, pools: Sequence[SlotPool], ingress_pools: Sequence[int], leases_per_answer: int) -> None:
        """
        Args:
            pools: all pools of the plan.
            ingress_pools: which of them clients fill.
            leases_per_answer: how many slots one answer refers to.
        """
        self._pools = pools
        self._leases_per_answer = max(1, leases_per_answer)
        self._slots = [pool.statistics().slots for pool in pools]
        self._ingress = frozenset(ingress_pools)
        self.clients: dict[int, Client] = {}
        #: For each pool, the clients that want more of it, in turn.
        self._waiting: dict[int, deque[Client]] = {pool: deque() for pool in ingress_pools}

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

    def quota(self, pool: int) -> int:
        """How many slots of a pool one client may have out.

        A quarter is kept back from a client that is alone, and all share alike as soon as there are
        several: one that never gives anything back exhausts its own quota, and nobody else's.
        """
        return self._part(self._slots[pool])

    def share(self) -> int:
        """How many requests one client may have inside, answers that it keeps included; parted as `quota`."""
        return self._part(sum(self._slots[pool] for pool in self._ingress))

    def _part(self, whole: int) -> int:
        return max(1, min(whole - whole // 4, whole // max(1, len(self.clients))))

    def _inside(self, client: Client) -> int:
        answers = -(-len(client.borrowed) // self._leases_per_answer)
        return len(client.granted) + len(client.requests) + answers

    def want(self, client: Client, pool: int, level: int) -> bool:
        """Set a client's level; False where the pool is not one that clients fill."""
        if pool not in self._ingress:
            return False
        client.level[pool] = level
        if client not in self._waiting[pool]:
            self._waiting[pool].append(client)
        return True

    def grants(self) -> Iterator[tuple[Client, Lease]]:
        """Give every free slot to the next client that wants one."""
        share = self.share()
        for index, waiting in self._waiting.items():
            pool = self._pools[index]
            quota = self.quota(index)
            # Each client is passed at most once after the last grant: those at their level drop out.
            while waiting and pool.free:
                client = waiting.popleft()
                out = client.out.get(index, 0)
                if out >= min(client.level.get(index, 0), quota) or self._inside(client) >= share:
                    # Back in the row when something of its own comes back: see `wake`.
                    continue
                lease = Lease(index, *pool.loan())
                client.out[index] = out + 1
                client.granted.add(lease)
                waiting.append(client)
                yield client, lease

    def came_back(self, client: Client, lease: Lease) -> None:
        """An ingress slot that `client` had out is free again; it may be granted once more."""
        client.out[lease.pool] -= 1

    def wake(self, client: Client) -> None:
        """Something of a client's has ended, so it may hold more again."""
        for pool, waiting in self._waiting.items():
            if client.level.get(pool, 0) > client.out.get(pool, 0) and client not in waiting:
                waiting.append(client)
