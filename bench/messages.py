"""Messages: what it costs to make, encode, decode and change one, and what a request costs the scheduler with them.

    python -m bench.messages

All in one process, without sockets or tensors. The request goes through three stages whose workers forward it: the
scheduler decodes and handles a submission and a notice of each stage, decides, and encodes what it has decided; the
decoding at the other end is counted as well. Values are CPU time, the lowest of several runs.
"""

from __future__ import annotations

import itertools
import time
import timeit
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pipeline.graph.plan import BatchPlan, Edge, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of
from pipeline.scheduler import scheduler as scheduling
from pipeline.wire import traces
from pipeline.wire.codec import decode, encode
from pipeline.wire.columns import integers, longs
from pipeline.wire.messages import (
    Answers,
    Hello,
    Hop,
    Loan,
    Message,
    Notices,
    Order,
    Orders,
    Passed,
    Ready,
    SlotRef,
    Submission,
    Submit,
    Trace,
)
from pipeline.wire.route import packed
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from stages.spec import TensorSpec

__all__ = ["Requests", "main"]

_RUNS = 7

_STAGES = "abc"

_CLIENT = 0x123456789ABCDEF


def main() -> None:
    """Measure, and print a line for each value."""
    order = _order()
    message = Orders(1, (order,))
    frame = encode(message)
    kind = "compiled" if scheduling.__file__.endswith(".so") else "Python"
    print(f"scheduler as {kind}; an order of three hops, {len(frame)} bytes")
    _show("make", _order)
    _show("encode", lambda: encode(message))
    _show("decode", lambda: decode(frame))
    _show("replace", lambda: replace(order, label=""))
    _show("request", Requests().go, number=2000)


def _show(what: str, call: Callable[[], object], number: int = 20_000) -> None:
    call()
    best = min(timeit.repeat(call, timer=time.process_time, number=number, repeat=_RUNS)) / number
    print(f"{what:8} {best * 1e6:7.2f} us")


def _order() -> Order:
    given = TensorHandle(3, 1234, 17, 0, "uint8", (1, 224, 224, 3))
    hop = Hop(0, 3, 4, 17, 5, False, (given,), ())
    route = packed(1, 0, 4, 5, 18, 5) + packed(2, 0, 5, 6, 19, 5)
    trace = traces.packed(Trace(0, 12, 345, 8, 0))
    return Order(123456, 1, 123456789012, 0, hop, trace, "3fa9c-17 cat.jpg", 0, 0, 0, "", route)


class Requests:
    """Requests through a scheduler, as its process would see them.

    Args:
        most: how many there may be at a time.
    """

    def __init__(self, most: int = 1) -> None:
        plan = _plan(8 * most)
        specs = [SegmentSpec("bench", pool.name.replace("/", ""), 64, pool.slots) for pool in plan.pools]
        made = [create("local", spec) for spec in specs]
        numbers = [segment.number for segment in made]
        self._ingress = numbers[0]
        self._scheduler = scheduling.Scheduler(plan, [SlotPool(segment) for segment in made], numbers, 1)
        self._now = 1
        self._tags = itertools.count(1)
        self._seen = 0
        self._grants: list[SlotRef] = []
        self._borrowed: list[SlotRef] = []
        for index in range(len(_STAGES)):
            self._tell(Ready(index, index, 0, 100 + index, 1))
        self._tell(Hello(_CLIENT, "bench"))
        self._decided()

    def go(self, count: int = 1) -> Counter[str]:
        """So many at a time, from one submission to all answers; returns how many messages of each kind that took.

        The three workers forward to each other, and each tells of all requests at once.
        """
        while len(self._grants) < count:
            self._tell(Loan(_CLIENT, self._ingress, next(self._tags), False))
            self._take(self._decided())
        submissions = []
        for _ in range(count):
            slot = self._grants.pop()
            inputs = (TensorHandle(*slot, 0, "uint8", (64,)),)
            submissions.append(Submission(next(self._tags), slot, inputs, 0, 0, "cat.jpg"))
        told: Counter[str] = Counter()
        self._tell(Submit(_CLIENT, self._seen, tuple(submissions), tuple(self._borrowed)), told)
        self._borrowed.clear()
        ordered = self._decided(told)
        requests = [each for message in ordered if isinstance(message, Orders) for each in _requests_in(message)]
        trace = b""
        for stage in range(len(_STAGES)):
            trace += traces.packed(Trace(stage, 12, 345, 1, 0))
            passed = [Passed(request, attempt, trace) for request, attempt in requests]
            self._tell(Notices(1, stage, (), tuple(passed)), told)
        self._take(self._decided(told))
        assert len(self._borrowed) == count, "a request has no answer"
        return told

    def _tell(self, message: Any, told: Counter[str] | None = None) -> None:
        self._now += 1000
        if told is not None:
            told[type(message).__name__] += 1
        self._scheduler.handle(decode(encode(message)), self._now)

    def _decided(self, told: Counter[str] | None = None) -> list[Any]:
        decided = [message for _, message in self._scheduler.decide(self._now)]
        if told is not None:
            told.update([type(message).__name__ for message in decided if isinstance(message, Message)])
        return [decode(encode(message)) if isinstance(message, Message) else message for message in decided]

    def _take(self, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, Answers):
                self._seen = message.number
                self._grants += message.grants
                for answer in message.answers:
                    self._borrowed += [SlotRef(*handle[:3]) for handle in answer.outputs if not isinstance(handle, int)]


def _requests_in(orders: Orders) -> list[tuple[int, int]]:
    """The number and the attempt of each request that is ordered."""
    single = [(order.request, order.attempt) for order in orders.orders]
    return single + [
        pair for each in orders.columns for pair in zip(longs(each.requests), integers(each.attempts), strict=True)
    ]


def _plan(slots: int) -> Plan:
    made = TensorSpec("x", "uint8", (64,))
    stages = tuple(
        [
            StagePlan(
                name=name, use="m:C", options={}, inputs=(made,), edges=(Edge(before, "x"),), after=(), outputs=(made,),
                fields=fields_of((made,)), batch=BatchPlan(4), credits=slots, workers=(WorkerPlan(name, 0),), host=name,
            )
            for before, name in zip(("ingress", *_STAGES), _STAGES)
        ]
    )  # fmt: skip
    pools = (PoolPlan("ingress/0", 64, slots), *(PoolPlan(name, 64, slots) for name in _STAGES))
    return Plan("bench", "", "", (made,), stages, (("x", Edge("c", "x")),), pools)


if __name__ == "__main__":
    main()
