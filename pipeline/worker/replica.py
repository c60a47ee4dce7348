"""Replica: one worker of a worker process, that is one replica of one stage.

It has its own number, batcher, batches in flight, flight record and counters, and knows nothing of
the others that it may share the process with. The process gives it orders and asks it, in turn, for
a step; what comes of that leaves through the process's forwarder.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.plan import Plan, Post, producer_of
from pipeline.logs.entry import Entry
from pipeline.logs.telling import tell_entry
from pipeline.metrics.buckets import ROWS
from pipeline.wire.columns import Columns, PassedColumns, longs
from pipeline.wire.messages import Fenced, Fences, Notice, Notices, Order, WorkerReport
from pipeline.wire.records import CLOSE_REASONS
from pipeline.wire.span_ids import SpanIds
from pipeline.worker.abandonment import unwanted
from pipeline.worker.candidates import Waiting, rows_in
from pipeline.worker.column_queue import Part
from pipeline.worker.execution import Execution
from pipeline.worker.failures import Home, Story, examine
from pipeline.worker.filling import Onwards, as_given
from pipeline.worker.flight import ColumnFlight, Flight, Outcome
from pipeline.worker.forwarder import Forwarder, Said, notices_of, untold
from pipeline.worker.grouping import batcher_of
from pipeline.worker.lean import Lean
from pipeline.worker.overdue import Overdue
from pipeline.worker.recorder import Recorder
from pipeline.worker.unpacking import misfit
from shm.view import SegmentTable
from stages.declared import declared
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["LATE_NS", "MOST_NOTICES", "Replica", "may_begin"]

MOST_NOTICES = 128
"""Notices in one message. Each may bring some 6000 characters of what went wrong, and a message has 4 MiB at most."""

LATE_NS = 5_000_000
"""How long a notice that does not hurry may wait for others to share its message."""

_BUSY_REPORT_NS = 1_000_000_000


class Replica:
    """One worker, from its stage's setup to its teardown.

    Args:
        plan: of the whole pipeline.
        post: which stage, under which number.
        replica: of the stage.
        recorder: its own flight record.
        table: every segment of the run.
        forwarder: of its process.
        came: the messages that have come while this worker computes, and are still to be handled.
    """

    def __init__(
        self, plan: Plan, post: Post, replica: int, recorder: Recorder, table: SegmentTable, forwarder: Forwarder,
        came: Callable[[], Collection[object]] = tuple,
    ) -> None:  # fmt: skip
        self.number, self.stage = post.number, post.stage
        self._came = came
        self._plan = plan
        self._mine = mine = plan.stages[post.stage]
        self._replica = replica
        self._recorder = recorder
        self._table = table
        self._forwarder = forwarder
        self.batcher = batcher_of(plan, post.stage)
        forwarder.add(post.number, self.batcher)
        self._stage: Stage | None = None
        #: Batches in flight, the oldest first; more than one only if the stage has a `concurrency` above 1.
        self.flights: list[Flight | ColumnFlight] = []
        #: Which of them is asked next, beside the oldest; and whether the last step found nothing to do.
        self._turn = 1
        self._idle = True
        #: When the last batch ended that was the oldest.
        self._oldest_ended = 0
        self.concurrency = 1
        #: Notices of forwarded orders: the scheduler learns the same from the order's last notice, and needs these only
        #: to know sooner what is free, and which worker had what when one dies.
        self.late: list[Said] = []
        self._late_at = self._late_rows = 0
        self._late_limit = max(1, mine.credits // 4)
        #: Failures whose first line has been printed.
        self._said = 0
        #: Batches begun; and as many as the scheduler has been told of.
        self.batches = self.reported = 0
        self._report_at = time.monotonic_ns() + _BUSY_REPORT_NS
        self._rows = 0
        self._closed = dict.fromkeys(CLOSE_REASONS, 0)
        self._sizes = [0] * (len(ROWS) + 1)
        #: Messages for this process that were refused; those of handles are counted by the execution.
        self.refused = 0
        #: It has finished every order, and will get no more of them.
        self.retired = False

    # -- before and after -------------------------------------------------------------------------

    def set_up(self) -> None:
        """Load the user's stage and make it ready."""
        with Overdue(f"stage {self._mine.name}: its setup"):
            self._set_up()

    def _set_up(self) -> None:
        plan = self._mine
        placed = plan.workers[self._replica]
        stage = load_stage(plan.use, plan.options, Path(self._plan.base_dir))
        says = declared(stage)
        if says.setup is not None:
            says.setup(
                StageContext(
                    stage=plan.name,
                    replica=self._replica,
                    threads=placed.threads,
                    device=says.device_of(placed.device),
                    max_batch=plan.batch.max_size,
                    cpus=placed.cpus,
                )
            )
        self._stage = stage
        # Read once more: the stage may have found it out in its setup.
        self.concurrency = declared(stage).concurrency
        self._compiled = compiled = CompiledPlan.of(self._plan).stages
        current = compiled[self.stage]
        self._execution = Execution(
            plan, self.stage, current.base, stage, self._table, current.asked, sized=current.sized,
            tell=self._tell_parts, stages=compiled, unwanted=self._unwanted, piece=self._begin_piece,
            context=_context(self._plan, self.stage),
        )  # fmt: skip
        self._lean = Lean(plan, self.stage, stage, self._table, compiled, self._execution)
        self.batcher.lean = self._lean.able

    def touches(self, pool: str) -> bool:
        """Whether the stage reads or fills slots of that pool."""
        return self._mine.touches(producer_of(pool))

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:
        """Show the stage the memory that it will be given views of, if it has a hook for that."""
        attach = declared(self._stage).attach_memory
        if attach is not None:
            attach(buffers)

    def forget(self) -> None:
        """Another scheduler has come: forget what the last one ordered."""
        self.batcher.clear()
        self.late.clear()
        self._late_rows = 0
        # The next scheduler has heard nothing of what was done so far.
        self.reported = 0

    def close(self) -> None:
        """Tear the stage down, if it was set up, and say what is left to say."""
        teardown = declared(self._stage).teardown
        if teardown is not None:
            try:
                teardown()
            except Exception as error:
                # All requests have been answered; a failing teardown must not keep the others from their last words and
                # from freeing what they hold.
                told = self.story(error)
                text = f"stage {self._mine.name}: teardown failed: {told.message}"
                tell_entry(Entry("error", text, stage=self._mine.name, traceback=told.traceback))
        if self.late:
            self.tell_late()
        if self._stage is not None:
            self.report()
            _tell(self._execution.failures.take(everything=True))
        self._recorder.close()

    # -- at work ------------------------------------------------------------------------------------

    def add(self, orders: Sequence[Order]) -> None:
        """Take in orders."""
        now = time.monotonic_ns()
        for order in orders:
            self.batcher.add(order, now)

    def add_columns(self, parts: Sequence[Columns]) -> bool:
        """Take in common orders; False: they are none of this worker's stage."""
        now = time.monotonic_ns()
        for columns in parts:
            if columns.hops[0].worker != self.number or misfit(columns, self.stage, self._compiled) is not None:
                return False
            self.batcher.add_columns(columns, now)
        return True

    def settle(self, settled: int) -> None:
        """Every request below that number is over: what was to be told of it later is not told. With one request in
        flight, this is what becomes of all of it."""
        if self.late:
            self.late = untold(self.late, settled)
            self._late_rows = _rows_of(self.late)

    def fence(self, message: Fences) -> None:
        """Forget orders, and answer that this worker does not write for them any more."""
        self.land_all()
        for fence in message.fences:
            self.batcher.fence(fence.request, fence.attempt)
        self._forwarder.tell_scheduler(Fenced(message.epoch, self.number, message.fences))

    def step(self, now: int, may_begin: bool = True) -> bool:
        """Settle what is over, and compute a batch if one closes now; whether there was anything.

        Args:
            now: monotonic nanoseconds.
            may_begin: whether a batch may begin.
        """
        flights = self.flights
        moved = bool(flights) and self._land()
        batch = self.batcher.take(now) if may_begin and len(flights) < self.concurrency else None
        if self.late and (self._late_rows >= self._late_limit or now >= self._late_at):
            self.tell_late()
        if batch is None:
            self._idle = not moved
            return moved
        self._idle = False
        self._closed[batch.reason] += 1
        if batch.columns:
            self._compute_columns(batch.columns)
        else:
            self._compute(batch.rows)
        if now >= self._report_at:
            # A worker that is always busy has no idle moment for it.
            self._report_at = now + _BUSY_REPORT_NS
            self.report()
        return True

    def _began(self, rows: int) -> None:
        self.batches += 1
        self._rows += rows
        self._sizes[bisect_left(ROWS, rows)] += 1

    def _compute_columns(self, batch: Sequence[Part]) -> None:
        requests = longs(b"".join([columns.requests for _, columns in batch]))
        self._began(len(requests))
        if self.concurrency > 1:
            oldest = self._record(requests)
            self._launched(oldest, *self._lean.start(batch))
            return
        self._recorder.begin(requests, time.monotonic_ns())
        outcome = self._lean.run(batch)
        self._recorder.end()
        self._pass_on(outcome)

    def _compute(self, rows: list[Waiting]) -> None:
        self._began(rows_in(rows))
        if self.concurrency > 1:
            oldest = self._record([row.order.request for row in rows])
            self._launched(oldest, *self._execution.start(rows))
            return
        self._recorder.begin([row.order.request for row in rows], time.monotonic_ns())
        outcome = self._execution.run(rows)
        self._recorder.end()
        self._pass_on(outcome)

    def _record(self, requests: list[int]) -> int:
        """Record that a batch begins beside those in flight; since when the oldest of them all is computed."""
        oldest = self._oldest(time.monotonic_ns())
        self._recorder.begin(self._flying() + requests, oldest)
        return oldest

    def _launched(self, oldest: int, outcome: Outcome, flight: Flight | ColumnFlight | None) -> None:
        """A batch was begun; None: nothing of it is in flight."""
        if flight is None:
            self._recorder.end(self._flying(), oldest)
        else:
            self.flights.append(flight)
            self.batcher.flying += flight.size
        self._pass_on(outcome)

    def _begin_piece(self, row: int) -> None:
        """The next piece of an order of many rows is computed; which row it is, if it is one alone."""
        now = time.monotonic_ns()
        # Beside other batches none is a suspect's, and the time is that of the oldest.
        self._recorder.piece(row, self._oldest(now) if len(self.flights) > 1 else now)

    def _land(self) -> bool:
        """Settle batches that are over; whether there was one.

        Batches mostly end in the order they began, and asking costs time. So if there is work to do, the worker asks
        for the oldest, and for one of the others in turn, so that none waits for one that takes long. Otherwise it asks
        for all.
        """
        flights = self.flights
        landed = False
        while flights and self._settle(flights[0]):
            landed = True
        if self._idle:
            for flight in flights[1:]:
                landed |= self._settle(flight)
        elif len(flights) > 1:
            at = self._turn if self._turn < len(flights) else 1
            if self._settle(flights[at]):
                landed = True
                # The next batch has this one's place now; but a batch that is begun after the last one is not the next.
                self._turn = at if at < len(flights) else 1
            else:
                self._turn = at + 1
        return landed

    def _settle(self, flight: Flight | ColumnFlight) -> bool:
        """Settle a batch if it is over."""
        if isinstance(flight, ColumnFlight):
            outcome = self._lean.finish(flight)
        else:
            outcome = self._execution.finish(flight)
        if outcome is None:
            return False
        if flight is self.flights[0]:
            self._oldest_ended = time.monotonic_ns()
        self.flights.remove(flight)
        self.batcher.flying -= flight.size
        self._recorder.end(self._flying(), self._oldest(0))
        self._pass_on(outcome)
        return True

    def land_all(self) -> None:
        """Wait for every batch in flight."""
        while self.flights:
            self._land()

    def _flying(self) -> list[int]:
        return list(chain.from_iterable([flight.requests for flight in self.flights]))

    def _oldest(self, now: int) -> int:
        """Since when the oldest batch is computed: it may have waited for the one before it."""
        return max(self.flights[0].began, self._oldest_ended) if self.flights else now

    def _pass_on(self, outcome: Outcome) -> None:
        if self._execution.failures.count != self._said:
            # Before the answers leave: when a client sees one, the reason has been printed.
            self._said = self._execution.failures.count
            _tell(self._execution.failures.take())
        # Forward first: the next stage can begin while the scheduler is told.
        if outcome.forwards or outcome.columns:
            self._forwarder.forward(outcome.forwards, outcome.columns)
        if outcome.late:
            if not self.late:
                self._late_at = time.monotonic_ns() + LATE_NS
            self.late += outcome.late
            self._late_rows += _rows_of(outcome.late)
        if outcome.notices:
            self.tell_late(outcome.notices)

    def tell_late(self, also: Sequence[Said] = ()) -> None:
        """Send the notices that were held back, together with those that are due."""
        said, self.late = [*self.late, *also], []
        self._late_rows = 0
        for start in range(0, len(said), MOST_NOTICES):
            part = said[start : start + MOST_NOTICES]
            self._forwarder.tell_scheduler(notices_of(self._forwarder.epoch, self.number, part))

    def _tell_parts(self, notices: Sequence[Notice]) -> None:
        """Send parts of answers, while their batch is still computed."""
        self._forwarder.tell_scheduler(Notices(self._forwarder.epoch, self.number, tuple(notices)))

    def _unwanted(self, rows: Sequence[Waiting]) -> Sequence[int]:
        """The places of the rows of a batch that are not wanted any more."""
        came = self._came()
        return unwanted(rows, came, self.number, self._forwarder.epoch) if came else ()

    def under_way(self) -> tuple[str, list[str]]:
        """The stage, and the labels of the requests that it has in its hands; "" and none if it has none."""
        if self._stage is not None and self._lean.labels:
            return self._mine.name, list(self._lean.labels)
        rows = self._execution.under_way if self._stage is not None else ()
        return (self._mine.name, list(dict.fromkeys([row.order.label for row in rows]))) if rows else ("", [])

    def story(self, error: BaseException) -> Story:
        """What to say of an exception of the stage."""
        return examine(error, Home.of(self._stage))

    def report(self) -> None:
        """Tell the scheduler its counters, if there is news."""
        if self.batches != self.reported:
            self.reported = self.batches
            if self._said:
                _tell(self._execution.failures.take())
            self._forwarder.tell_scheduler(
                WorkerReport(
                    self.number,
                    self.stage,
                    self.batches,
                    self._rows,
                    tuple([self._closed[reason] for reason in CLOSE_REASONS]),
                    self.refused + self._execution.refused,
                    self._execution.copies,
                    tuple(self._sizes),
                    self._execution.times.queue(),
                    self._execution.times.compute(),
                )
            )


def _rows_of(said: Sequence[Said]) -> int:
    return sum([len(each) if isinstance(each, PassedColumns) else 1 for each in said])


def _context(plan: Plan, stage: int) -> Onwards:
    """What a stage's requests hand on."""
    if plan.tracing is None:
        return as_given
    ids = SpanIds(plan.tracing.seed, plan.tracing.sample)
    return partial(ids.onward, stage=stage)


def _tell(entries: Sequence[Entry]) -> None:
    for entry in entries:
        tell_entry(entry)


def may_begin(replicas: Sequence[Replica]) -> bool:
    """Whether a batch may begin beside those in flight in the same process.

    While suspect requests run, only one batch is computed at a time: a death then says which one it was.
    """
    flying = [flight for replica in replicas for flight in replica.flights]
    if not flying:
        return True
    return not (flying[0].is_suspect or any(replica.batcher.has_suspects for replica in replicas))
