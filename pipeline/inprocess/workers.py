"""LocalWorkers: the scheduler and the workers of a plan in the caller's thread, over memory of this process.

The scheduler decides, and what it orders is computed at once, one request at a time in batches of one:

    handle ──▶ Scheduler ──Orders──▶ Execution of the stage ──forwards──▶ Execution of the next ...
                   ▲                      │
                   └───── Notices ◀───────┘

Messages for clients are given to the caller. Slots are memory of this process, so a handle means here what it means in
every run.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.graph.plan import Plan, StagePlan
from pipeline.scheduler.door import Decided
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import Message, Order, Orders, PoolAddress, Ready, WorkerReport
from pipeline.wire.records import CLOSE_REASONS
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.forwarder import notices_of
from shm import segments
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from stages.stage import Stage

__all__ = ["LocalWorkers"]


class LocalWorkers:
    """Scheduler, slots and executions of one plan.

    Args:
        plan: what to run; of its workers only the first of each stage counts.
        stages: the users' objects in the plan's order, set up.
        raised: told of each exception that a stage's failure is about to become: (stage, exception).
        epoch: which life of the scheduler it is.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Sequence[Stage],
        raised: Callable[[str, Exception], None] = lambda stage, error: None,
        epoch: int = 0,
    ) -> None:
        self.plan = plan
        self.epoch = epoch
        self._made = [
            segments.create("local", SegmentSpec("local", pool.name.replace("/", "-"), pool.slot_bytes, pool.slots))
            for pool in plan.pools
        ]
        #: Every segment.
        self.table = SegmentTable()
        for segment in self._made:
            self.table.add(segment)
        #: In the plan's order.
        self.pools = [SlotPool(segment) for segment in self._made]
        #: Of each pool the segment's number.
        self.numbers = [segment.number for segment in self._made]
        addresses = [PoolAddress(*segment.address, pool.name) for segment, pool in zip(self._made, plan.pools)]
        self.scheduler = Scheduler(plan, self.pools, self.numbers, epoch, addresses)
        self._executions = []
        for index, (mine, stage) in enumerate(zip(plan.stages, stages)):
            current = self.scheduler.compiled.stages[index]
            execution = Execution(
                mine, index, current.base, stage, self.table, current.asked, sized=current.sized,
                raised=partial(raised, mine.name), stages=self.scheduler.compiled.stages,
            )  # fmt: skip
            self._executions.append(execution)
            # A worker a stage, whose number is the stage's index.
            self.handle(Ready(index, index, 0, os.getpid(), epoch))
        self._batches: Counter[int] = Counter()
        #: The stage that computes, and the label of its request; "" and none between them.
        self.under_way: tuple[str, list[str]] = ("", [])

    def close(self) -> None:
        """Give the memory back. Arrays that are still read keep theirs."""
        self.table.close()
        for segment in self._made:
            segment.unlink()

    def buffers_of(self, stage: StagePlan) -> list[memoryview]:
        """The memory in which a stage's inputs and outputs lie."""
        return [made.buffer for pool, made in zip(self.plan.pools, self._made) if stage.touches(pool.producer)]

    def handle(self, message: Message) -> None:
        """Tell the scheduler."""
        self.scheduler.handle(message, time.monotonic_ns())

    def report(self) -> None:
        """Tell the scheduler what the workers have done, as workers do now and then."""
        for index, execution in enumerate(self._executions):
            count = self._batches[index]
            closed = tuple(count if reason == "full" else 0 for reason in CLOSE_REASONS)
            report = WorkerReport(
                index, index, count, count, closed, execution.refused, execution.copies,
                (count,),  # each batch has one row
                execution.times.queue(), execution.times.compute(),
            )  # fmt: skip
            self.handle(report)

    def work(self, take: Callable[[Decided], None]) -> None:
        """Decide and compute until there is nothing left to do.

        Args:
            take: given what is decided for others than workers.
        """
        while decided := self.scheduler.decide(time.monotonic_ns()):
            for receiver, message in decided:
                if isinstance(message, Orders):
                    for order in message.orders:
                        self._compute(receiver.number, order)
                else:
                    take((receiver, message))

    def _compute(self, number: int, order: Order) -> None:
        self._batches[number] += 1
        now = time.monotonic_ns()
        self.under_way = self.plan.stages[number].name, [order.label]
        outcome = self._executions[number].run([Waiting(order, now)])
        self.under_way = "", []
        for following, forwarded in outcome.forwards.items():
            for one in forwarded:
                self._compute(following, one)
        self.handle(notices_of(self.epoch, number, [*outcome.late, *outcome.notices]))
