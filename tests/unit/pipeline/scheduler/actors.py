"""The workers and clients of a simulation, as far as they are modelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from pipeline.wire.columns import Columns
from pipeline.wire.messages import SlotRef
from pipeline.worker.batcher import Batcher
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.forwarder import Said, untold
from pipeline.worker.lean import Lean
from shm.handle import TensorHandle

__all__ = ["EPOCH", "MS", "SCHEDULER", "SUPERVISOR", "Client", "Expected", "Peer", "Worker", "mark_of", "running_of"]

EPOCH = 1
MS = 1_000_000
SCHEDULER = "scheduler"
SUPERVISOR = "supervisor"

Peer = str | tuple[str, int]

_BATCHES = count(1)


@dataclass
class Worker:
    """One worker: a process, or one of several in a process."""

    number: int
    process: int
    """The number of its first worker."""
    stage: int
    replica: int
    batcher: Batcher
    execution: Execution
    lean: Lean
    alive: bool = True
    #: The batch that is computed, and what its inputs and generations were when it began.
    rows: list[Waiting] = field(default_factory=list)
    read: list[tuple[TensorHandle, bytes]] = field(default_factory=list)
    wrote: list[tuple[TensorHandle, bytes]] = field(default_factory=list)
    late: list[Said] = field(default_factory=list)
    #: Every request below this number is over, as the process was told last.
    settled: int = 0
    #: The same batch, if it came as columns.
    columns: Sequence[tuple[int, Columns]] = ()
    #: The scheduler has told it to leave.
    retired: bool = False
    #: The requests of the batch before, and the how-manieth of all batches of all workers that was.
    last: tuple[int, ...] = ()
    last_number: int = 0

    @property
    def peer(self) -> Peer:
        return ("w", self.number)

    @property
    def requests(self) -> tuple[int, ...]:
        """Those that it computes."""
        return tuple(row.order.request for row in self.rows)

    def end_batch(self) -> None:
        """What it computes is over."""
        self.last, self.last_number = self.requests, next(_BATCHES)
        self.rows, self.columns, self.read, self.wrote = [], (), [], []

    def settle(self, settled: int) -> int:
        """Its process hears up to which request all are over; how many notices of those it need not send."""
        self.settled, before = max(self.settled, settled), self.late
        self.late = untold(before, self.settled)
        return len(before) - len(self.late)


def running_of(process: Sequence[Worker]) -> dict[int, tuple[int, ...]]:
    """What the flight records of a dead process's workers say that it was computing, by worker."""
    if running := {worker.number: worker.requests for worker in process if worker.rows}:
        return running
    latest = max(process, key=lambda worker: worker.last_number)
    return {latest.number: latest.last} if latest.last else {}


@dataclass
class Expected:
    """What a client may get for one request."""

    outputs: dict[str, bytes]
    deadline: int
    bad: bool
    stream: int = 0
    sequence: int = 0
    cancelled: bool = False
    #: What is answered for each child, and for which ones it has been.
    children: list[dict[str, bytes]] = field(default_factory=list)
    came: set[int] = field(default_factory=set)
    #: The parts of its answer that have come.
    parts: list[tuple[TensorHandle, bytes]] = field(default_factory=list)


@dataclass
class Client:
    """One client process."""

    number: int
    alive: bool = True
    granted: list[SlotRef] = field(default_factory=list)
    waiting: dict[int, Expected] = field(default_factory=dict)
    #: Answers whose slots it still reads.
    held: list[list[tuple[TensorHandle, bytes]]] = field(default_factory=list)
    tags: int = 0
    asks: int = 0
    #: The number of the last `Answers` that it took in.
    seen: int = 0
    #: It has said goodbye, and reads what it holds.
    leaving: bool = False
    #: It knows that another run has taken over.
    sent_away: bool = False
    #: The sequence number of the last request of each of its streams.
    streams: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0})

    @property
    def peer(self) -> Peer:
        return ("c", self.number)


def mark_of(worker: int, request: int, attempt: int) -> bytes:
    """What a worker writes first: no other worker, and no other attempt, writes the same."""
    return (worker << 52 | (request & 0xFFFF_FFFF) << 12 | attempt).to_bytes(8, "little")
