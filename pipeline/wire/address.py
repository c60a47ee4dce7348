"""Address: the name of a process within its run.

    supervisor  scheduler       one of each
    worker 3                    never used twice in a run; a process of several workers answers to each of theirs
    client 1f                   drawn by the client, in hexadecimal
    feeder 0, canary 0, ...     other children of the supervisor
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CLIENT", "CLIENTS", "RING_SUFFIX", "SCHEDULER", "SOCKET_SUFFIX", "SUPERVISOR", "WORKER", "Address"]

CLIENTS = "clients"
"""The folder within a run's folder that holds what clients make."""

WORKER = "worker"
"""The kind of a worker's address."""

CLIENT = "client"
"""The kind of a client's address."""

SOCKET_SUFFIX = ".sock"
"""How the names of all sockets of ZeroMQ end."""

RING_SUFFIX = ".ring"
"""How the names of all sockets end by which rings are handed over."""


class Address(NamedTuple):
    """A process of a run. Pure: whether it lives, and how it is reached, is asked elsewhere (`pipeline.wire.links`)."""

    kind: str
    number: int = 0

    @classmethod
    def worker(cls, number: int) -> Address:
        """That of the worker with this number."""
        return cls(WORKER, number)

    @classmethod
    def client(cls, number: int) -> Address:
        """That of the client with this number."""
        return cls(CLIENT, number)

    @property
    def file(self) -> str:
        """The name that its files have in the run's folder, without a suffix: "scheduler", "w3", "clients/1f"."""
        if self.kind == WORKER:
            return f"w{self.number}"
        if self.kind == CLIENT:
            return f"{CLIENTS}/{self.number:x}"
        return f"{self.kind}{self.number or ''}"

    def __str__(self) -> str:
        """For people and logs: "scheduler", "worker 3", "client 1f"."""
        if self in (SCHEDULER, SUPERVISOR):
            return self.kind
        return f"{self.kind} {self.number:x}" if self.kind == CLIENT else f"{self.kind} {self.number}"


SUPERVISOR = Address("supervisor")

SCHEDULER = Address("scheduler")
