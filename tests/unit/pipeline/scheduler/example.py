"""Example: a scheduler at its door, and short words for the messages of workers and clients.

Its pools are memory of this process. Tests read what it decides as lines, one for each order, fence, answer and grant:

    worker 0: order 1 a>b       of request 1 (attempt 0), two hops; later attempts are "1.1", and a group is named
    worker 0: fence 1
    client 1: 7 BadInput        the answer to what the client calls 7
    client 1: 7 part 0          one part of it
    client 1: a slot
    connect client 1            the connections of the process
    worker 0: PeerGone          any other message is named by its kind
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
from msgspec.structs import replace

from pipeline.errors import WireError
from pipeline.graph.plan import Plan
from pipeline.scheduler.door import NO_LIMITS, SUPERVISOR, ClientGone, Connect, Decided, Disconnect, Limits
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    OK,
    Answer,
    Answers,
    Fenced,
    Fences,
    Hello,
    Hop,
    Loan,
    Message,
    Notice,
    Notices,
    Order,
    Orders,
    PoolAddress,
    Ready,
    SlotRef,
    Submission,
    Submit,
    Trace,
    WorkerGone,
)
from pipeline.wire.route import hops_of
from pipeline.wire.traces import packed
from pipeline.worker.unpacking import orders_of
from shm import segments
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.graphs import TENSOR_BYTES, make_plan

__all__ = ["Example"]

_SEGMENT = 100

#: Of the segments, whose names are those of this process.
_numbers = count()


class Example:
    """A scheduler with one worker a stage, whose number is the stage's index, and one client, whose number is 1.

    Up to three slots of a segment are granted as they are asked for, and none unasked.

    Args:
        graph: one of `graphs.GRAPHS`, or a plan.
        ready: the workers are there, and the client has its slots.
        changed: fields of the plan that are not as `make_plan` has them.
        sizes: see `make_plan`.
    """

    def __init__(
        self, graph: str | Plan = "chain", *, ready: bool = True, changed: dict[str, Any] | None = None,
        limits: Limits = NO_LIMITS, slots: int = 3, epoch: int = 0, **sizes: Any,
    ) -> None:  # fmt: skip
        plan = graph if isinstance(graph, Plan) else make_plan(graph, slots=slots, **sizes)
        self.plan = replace(plan, **(changed or {}))
        self.now = 1000 * MS
        self.epoch = epoch
        self._made = [
            segments.create("local", SegmentSpec(f"example{next(_numbers)}", f"p{at}", pool.slot_bytes, pool.slots, number=_SEGMENT + at))
            for at, pool in enumerate(self.plan.pools)
        ]
        self.pools = [SlotPool(segment) for segment in self._made]
        addresses = [PoolAddress("local", f"p{at}", pool.name) for at, pool in enumerate(self.plan.pools)]
        numbers = [segment.number for segment in self._made]
        self.scheduler = Scheduler(self.plan, self.pools, numbers, epoch, addresses, limits)
        self.ingress = numbers[self.scheduler.compiled.ingress_pools[0]]
        #: What was decided last, as messages.
        self.decided: list[Decided] = []
        #: By client: its slots.
        self.granted: defaultdict[int, list[SlotRef]] = defaultdict(list)
        #: By client and tag.
        self.answers: dict[tuple[int, int], Answer] = {}
        self._hops: dict[tuple[int, int], tuple[Order, Hop]] = {}
        self._asks = 0
        if ready:
            for stage in range(len(self.plan.stages)):
                self.ready(stage, stage)
            self.joins(1)

    def close(self) -> None:
        """Give the memory back."""
        for segment in self._made:
            segment.close()
            segment.unlink()

    def handle(self, message: Message | ClientGone | WireError) -> None:
        """A message comes in."""
        self.scheduler.handle(message, self.now)

    def decide(self, after_ms: float = 0) -> list[str]:
        """What the scheduler decides after so many milliseconds, in lines."""
        self.now += int(after_ms * MS)
        self.decided = self.scheduler.decide(self.now)
        return [line for decided in self.decided for line in self._lines(*decided)]

    # -- workers ----------------------------------------------------------------------------------

    def ready(self, worker: int, stage: int) -> None:
        """A worker of a stage is ready."""
        self.handle(Ready(worker, stage, 0, 100 + worker, self.epoch))

    def finish(self, worker: int, request: int, code: str = OK, **more: Any) -> None:
        """A worker has finished what it was ordered last of a request.

        Args:
            more: fields of the notice that are not as they would be.
        """
        self.handle(Notices(self.epoch, worker, (self.notice(worker, request, code, **more),)))

    def notice(self, worker: int, request: int, code: str = OK, **more: Any) -> Notice:
        """What `finish` sends."""
        order, hop = self._hops[worker, request]
        fields = self.plan.stages[hop.stage].fields
        outputs: tuple[TensorHandle, ...] = ()
        children: tuple[tuple[TensorHandle, ...], ...] = ()
        if code == OK:
            made = [
                TensorHandle(hop.segment, hop.slot, hop.generation, field.offset, "uint8", (TENSOR_BYTES,)) for field in fields
            ]
            outputs = tuple(handle for handle, field in zip(made, fields) if field.spec.many is None)
            # Two of each that is many.
            children = tuple((handle, handle) for handle, field in zip(made, fields) if field.spec.many is not None)
        notice = Notice(
            request, order.attempt, code, "" if code == OK else "why", outputs, packed(Trace(hop.stage, 1, 2, 1, 0)), children,
            0, TENSOR_BYTES, TENSOR_BYTES, "",
        )  # fmt: skip
        return msgspec.structs.replace(notice, **more)

    def dies(self, worker: int, *running: int, outside: bool = False, beside: bool = False) -> None:
        """A worker that was computing these requests is dead."""
        self.handle(WorkerGone(worker, "killed", running, outside, beside))

    def fenced(self) -> None:
        """Every worker that was sent fences a moment ago answers them."""
        for _, message in self.decided:
            if isinstance(message, Fences):
                self.handle(Fenced(message.epoch, message.worker, message.fences))

    # -- clients ----------------------------------------------------------------------------------

    def joins(self, client: int, slots: int = 3) -> None:
        """A client says hello, and is granted some slots."""
        self.handle(Hello(client, f"client {client}"))
        self.decide()
        for _ in range(slots):
            self.asks(client)
            self.decide()

    def asks(self, client: int = 1, *, wait: bool = False) -> None:
        """A client asks for a slot."""
        self._asks += 1
        self.handle(Loan(client, self.ingress, self._asks, wait))

    def submit(self, *tags: int, client: int = 1, priority: int = 0, deadline: int = 0, slot: SlotRef | None = None) -> None:
        """A client sends requests, one a slot. `deadline`: monotonic nanoseconds."""
        submissions = [
            self.submission(tag, slot or self.granted[client].pop(0), priority=priority, deadline=deadline) for tag in tags
        ]
        self.handle(Submit(client, 0, tuple(submissions), ()))

    def submission(self, tag: int, slot: SlotRef, *, priority: int = 0, deadline: int = 0, name: str = "") -> Submission:
        """A request whose inputs lie where they should."""
        inputs = [
            TensorHandle(*slot, TENSOR_BYTES * at, "uint8", (TENSOR_BYTES,)) for at in range(len(self.plan.inputs))
        ]
        return Submission(tag, slot, tuple(inputs), deadline, priority, name)

    def release(self, tag: int, client: int = 1) -> None:
        """A client has read an answer."""
        outputs = self.answers[client, tag].outputs
        slots = {SlotRef(*handle[:3]): None for handle in outputs if isinstance(handle, TensorHandle)}
        self.handle(Submit(client, 0, (), tuple(slots)))

    # -- what is seen -----------------------------------------------------------------------------

    def hop(self, worker: int, request: int) -> Hop:
        """What a worker was ordered last of a request."""
        return self._hops[worker, request][1]

    def free(self, pool: str) -> int:
        """The free slots of a pool."""
        return self.pools[[each.name for each in self.plan.pools].index(pool)].free

    def _lines(self, receiver: Any, message: Any) -> Sequence[str]:
        kind, number = receiver
        who = kind if receiver == SUPERVISOR else f"{kind} {number}"
        if isinstance(message, Orders):
            stages = self.scheduler.compiled.stages
            common = [order for columns in message.columns for order in orders_of(columns, stages)]
            return [f"{who}: {self._ordered(order)}" for order in (*message.orders, *common)]
        if isinstance(message, Fences):
            return [f"{who}: fence {_attempt(*fence)}" for fence in message.fences]
        if isinstance(message, Answers):
            self.granted[number] += message.grants
            self.answers.update({(number, answer.tag): answer for answer in message.answers})
            lines = [f"{who}: {_answered(answer)}" for answer in message.answers]
            return [*lines, *[f"{who}: a slot"] * len(message.grants)]
        if isinstance(message, Connect):
            return [f"connect client {message.client}"]
        if isinstance(message, Disconnect):
            return [f"disconnect {message.receiver.kind} {message.receiver.number}"]
        return [f"{who}: {type(message).__name__}"]

    def _ordered(self, order: Order) -> str:
        hops = [order.hop, *[Hop(hop[0], *hop[2:], False, (), ()) for hop in hops_of(order.route)]]
        for hop in hops:
            self._hops[hop.worker, order.request] = order, hop
        stages = ">".join(self.plan.stages[hop.stage].name for hop in hops)
        group = f" group {order.group}" if order.group else ""
        return f"order {_attempt(order.request, order.attempt)} {stages}{group}"


def _answered(answer: Answer) -> str:
    return f"{answer.tag} {answer.code or 'OK'}" if answer.last else f"{answer.tag} part {answer.part}"


def _attempt(request: int, attempt: int) -> str:
    return f"{request}.{attempt}" if attempt else f"{request}"
