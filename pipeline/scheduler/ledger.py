"""Ledger: which request is where, and which slot belongs to whom.

The records that the scheduler's decisions are made on; they decide nothing themselves.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.wire.messages import Trace
from shm.handle import TensorHandle

__all__ = ["Lease", "Request", "Step", "Worker"]


class Lease(NamedTuple):
    """A slot that somebody has out of a pool."""

    pool: int
    slot: int
    generation: int


class Step(NamedTuple):
    """One stage of one request, as it was last ordered."""

    worker: int
    attempt: int
    lease: Lease | None
    """The slot it fills; None where the stage has none, or once the slot has been given back."""
    sender: int
    """The worker that forwards the order to it; negative: the scheduler sent it itself."""


class Request:
    """One request on its way.

    `claimed` and `done` are masks of stages. A stage is
        waiting for its needs    in neither
        queued or ordered        in claimed      (ordered: it has a step)
        finished                 in done
    """

    __slots__ = (
        "answered",
        "attempt",
        "claimed",
        "client",
        "deadline",
        "deaths",
        "done",
        "fences",
        "group",
        "how",
        "id",
        "ingress",
        "priority",
        "readers",
        "scrap",
        "steps",
        "submitted",
        "tag",
        "traces",
        "values",
    )

    def __init__(
        self,
        number: int,
        client: int,
        tag: int,
        ingress: Lease,
        inputs: tuple[TensorHandle, ...],
        *,
        stages: int,
        tensors: int,
        readers: tuple[int, ...],
        deadline: int,
        priority: int,
        submitted: int,
    ) -> None:
        self.id = number
        self.client = client
        self.tag = tag
        self.attempt = 0
        self.deadline = deadline
        self.priority = priority
        self.submitted = submitted
        #: The slot that holds the inputs; None once it has been given back.
        self.ingress: Lease | None = ingress
        #: The handle of every tensor that is valid, by tensor number.
        self.values: list[TensorHandle | None] = [*inputs, *[None] * (tensors - len(inputs))]
        self.steps: list[Step | None] = [None] * stages
        self.claimed = 0
        self.done = 0
        #: Readers that have not finished, by producer (index + 1; 0 is the ingress).
        self.readers = list(readers)
        self.traces: tuple[Trace, ...] = ()
        #: (worker, attempt) of cancelled orders that their worker has not given up yet. While there
        #: are any, no slot of this request is given to anybody else: it could still be read or written.
        self.fences: set[tuple[int, int]] = set()
        #: What comes back once `fences` is empty.
        self.scrap: list[Lease] = []
        self.answered = False
        #: What its suspicion weighs: deaths of workers that ran it alone (see `recovery`).
        self.deaths = 0
        #: How the last worker died that ran it.
        self.how = ""
        #: Nonzero: it runs only together with requests of the same group.
        self.group = 0

    def __repr__(self) -> str:
        return (
            f"<request {self.id} attempt {self.attempt} done {self.done:b} claimed {self.claimed:b}"
            f"{' answered' if self.answered else ''}{f' fences {sorted(self.fences)}' if self.fences else ''}>"
        )


class Worker:
    """One living worker process."""

    __slots__ = ("credits", "number", "orders", "pid", "replica", "stage")

    def __init__(self, number: int, stage: int, replica: int, pid: int, credits: int) -> None:
        self.number = number
        self.stage = stage
        self.replica = replica
        self.pid = pid
        self.credits = credits
        #: (request, attempt) of every order that it has not finished or given up.
        self.orders: set[tuple[int, int]] = set()

    def close(self, request: int, attempt: int) -> bool:
        """One order less, and one credit more; False where it was not ordered, or is closed already."""
        key = (request, attempt)
        if key not in self.orders:
            return False
        self.orders.remove(key)
        self.credits += 1
        return True
