"""LocalPipeline: a whole pipeline in the caller's thread.

The scheduler decides, and what it orders is computed at once, one request at a time in batches of one:

    submit ──▶ Scheduler ──orders──▶ Execution of the stage ──forwards──▶ Execution of the next ...
                   ▲                      │
                   └───── notices ◀───────┘

Slots are memory of this process, so a handle means here what it means in every run.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.graph.plan import Plan, StagePlan
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    Answer,
    Answers,
    Hello,
    Loan,
    Notices,
    Order,
    Orders,
    Ready,
    SlotRef,
    Submission,
    Submit,
    WorkerReport,
)
from pipeline.worker.execution import Execution
from pipeline.worker.inbox import CLOSE_REASONS
from pipeline.worker.peers import Waiting
from shm import segments
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from stages.stage import Stage

__all__ = ["CLIENT", "LocalPipeline"]

_EPOCH = 0
CLIENT = 1
"""The number of the one client."""


class LocalPipeline:
    """Scheduler, slots and executions of one plan.

    Args:
        plan: what to run; of its workers only the first of each stage counts.
        stages: the users' objects in the plan's order, set up.
        raised: told of each exception that a stage's failure is about to become: (stage, exception).
    """

    def __init__(self, plan: Plan, stages: Sequence[Stage], raised: Callable[[str, Exception], None]) -> None:
        self.plan = plan
        self._made = [
            segments.create("local", SegmentSpec("local", pool.name.replace("/", "-"), pool.slot_bytes, pool.slots))
            for pool in plan.pools
        ]
        #: Every segment.
        self.table = SegmentTable()
        for segment in self._made:
            self.table.add(segment)
        numbers = [segment.number for segment in self._made]
        self._scheduler = Scheduler(plan, [SlotPool(segment) for segment in self._made], numbers, _EPOCH)
        self._executions = []
        for index, (mine, stage) in enumerate(zip(plan.stages, stages)):
            route = self._scheduler.routes.stages[index]
            sized = len(route.pools) > 1
            execution = Execution(
                mine, index, route.base, stage, self.table, route.asked, sized=sized, raised=_Raised(mine.name, raised)
            )
            self._executions.append(execution)
            # A worker a stage, whose number is the stage's index.
            self._scheduler.handle(Ready(index, index, 0, os.getpid(), _EPOCH), time.monotonic_ns())
        self._batches: Counter[int] = Counter()
        self._granted: dict[int, list[SlotRef]] = {numbers[at]: [] for at in self._scheduler.routes.ingress_pools}
        self._asks = self._seen = 0
        #: The stage that computes, and the label of its request; "" and none between them.
        self.under_way: tuple[str, list[str]] = ("", [])
        self._scheduler.handle(Hello(CLIENT, "in this process"), time.monotonic_ns())

    def close(self) -> None:
        """Give the memory back. Arrays that are still read keep theirs."""
        self.table.close()
        for segment in self._made:
            segment.unlink()

    def buffers_of(self, stage: StagePlan) -> list[memoryview]:
        """The memory that a stage's inputs and outputs lie in."""
        producers = {stage.name, *(edge.producer for edge in stage.edges)}
        pools = zip(self.plan.pools, self._made)
        return [made.buffer for pool, made in pools if pool.name.partition("/")[0] in producers]

    def slot_for(self, nbytes: int) -> SlotRef | None:
        """A slot to fill with a request's inputs, of the smallest pool that holds so many bytes; None: none does."""
        number = next((number for number in self._granted if nbytes <= self.table.slot_bytes(number)), None)
        if number is None:
            return None
        if not self._granted[number]:
            self._asks += 1
            self._scheduler.handle(Loan(CLIENT, number, self._asks, True), time.monotonic_ns())
            self._work()
        return self._granted[number].pop()

    def keep(self, slot: SlotRef) -> None:
        """A slot that was not sent, for the next request."""
        self._granted[slot.segment].append(slot)

    def run(self, submission: Submission) -> Answer:
        """Compute one request from its first stage to its answer."""
        self._scheduler.handle(Submit(CLIENT, self._seen, (submission,), ()), time.monotonic_ns())
        answers = self._work()
        *parts, answer = answers
        assert not any(part.last for part in parts), f"request {submission.tag} has {len(answers)} answers"
        # Of an answer in parts all lie in one slot, and none of them is shown here.
        given = [handle for part in parts[:1] for handle in part.outputs if not isinstance(handle, int)]
        self.release([SlotRef(*handle[:3]) for handle in given])
        return answer

    def release(self, slots: Sequence[SlotRef]) -> None:
        """Slots of answers that are read no more."""
        self._scheduler.handle(Submit(CLIENT, self._seen, (), tuple(slots)), time.monotonic_ns())

    def status(self) -> dict[str, Any]:
        """As `pipeline status` has it."""
        for index, execution in enumerate(self._executions):
            count = self._batches[index]
            closed = tuple(count if reason == "full" else 0 for reason in CLOSE_REASONS)
            report = WorkerReport(index, index, count, count, closed, execution.refused, execution.copies)
            self._scheduler.handle(report, time.monotonic_ns())
        return self._scheduler.status()

    def _work(self) -> list[Answer]:
        """Do all there is to do; the answers that came of it."""
        answers: list[Answer] = []
        while decided := self._scheduler.decide(time.monotonic_ns()):
            for receiver, message in decided:
                if isinstance(message, Answers):
                    self._seen = message.number
                    answers += message.answers
                    for slot in message.grants:
                        self._granted[slot.segment].append(slot)
                elif isinstance(message, Orders):
                    for order in message.orders:
                        self._compute(receiver.number, order)
        return answers

    def _compute(self, number: int, order: Order) -> None:
        self._batches[number] += 1
        now = time.monotonic_ns()
        self.under_way = self.plan.stages[number].name, [order.label]
        outcome = self._executions[number].run([Waiting(order, now)])
        self.under_way = "", []
        for following, forwarded in outcome.forwards.items():
            for one in forwarded:
                self._compute(following, one)
        notices = (*outcome.late, *outcome.notices)
        self._scheduler.handle(Notices(_EPOCH, number, notices), time.monotonic_ns())


class _Raised:
    """Names the stage."""

    def __init__(self, stage: str, tell: Callable[[str, Exception], None]) -> None:
        self._stage = stage
        self._tell = tell

    def __call__(self, error: Exception) -> None:
        self._tell(self._stage, error)
