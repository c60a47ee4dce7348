"""The worker process: one replica of one stage.

It takes orders from its inbox, runs its stage over views of slots, sends each order on to the worker
of its next hop, and a notice to the scheduler. It never decides who gets what, and never allocates
or frees a slot.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import WireError
from pipeline.processes.child import Boot, boot, freeze_heap
from pipeline.scheduler.routes import Routes
from pipeline.wire.messages import (
    Failed,
    Fenced,
    Fences,
    Message,
    Notice,
    Notices,
    Orders,
    PeerGone,
    Ready,
    Reset,
    Stop,
    WorkerReport,
)
from pipeline.wire.sockets import Inbox as Socket
from pipeline.wire.sockets import Outbox, address_of
from pipeline.worker.execution import Execution, Flight, Outcome
from pipeline.worker.grouping import inbox_of
from pipeline.worker.inbox import CLOSE_REASONS, Waiting
from pipeline.worker.recorder import Recorder
from shm import segments
from shm.placement import map_pages
from shm.view import SegmentTable
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["main"]

_REPORT_NS = 100_000_000
_LATE_NS = 5_000_000
_IDLE_COLLECT_NS = 1_000_000_000
_IDLE_WAIT_MS = 2000
#: Batches in flight are asked for without a pause for so long, then with one.
_SPIN_NS = 300_000
_NAP_S = 50e-6
_TRACEBACK_CHARACTERS = 20_000


class _Worker:
    """The loop, and everything it holds."""

    def __init__(self, boot: Boot, socket: Socket, supervisor: Outbox) -> None:
        self._boot = boot
        self._plan = boot.plan.stages[boot.stage]
        self._socket = socket
        self._supervisor = supervisor
        self._scheduler = Outbox(address_of(boot.run_dir, "scheduler"))
        self._peers: dict[int, Outbox] = {}
        self._inbox = inbox_of(boot.plan, boot.stage)
        self._epoch = boot.epoch
        self._table = SegmentTable()
        self._buffers: list[memoryview] = []
        self._attach(boot.segments[:-1])
        self._records = segments.attach(boot.segments[-1])
        self._recorder = Recorder(self._records.slot(boot.record))
        self._stage: Stage | None = None
        #: Batches in flight, the oldest first; more than one only where the stage has a `concurrency` above 1.
        self._flights: list[Flight] = []
        self._concurrency = 1
        self._stopping = False
        self._batches = 0
        self._rows = 0
        self._refused = 0
        self._closed = dict.fromkeys(CLOSE_REASONS, 0)
        #: Notices of forwarded orders: the scheduler hears of them by the order's last notice anyway,
        #: and needs them only to know sooner what is free, and who had what when somebody dies.
        self._late: list[Notice] = []
        self._late_at = 0
        self._late_limit = max(1, self._plan.credits // 4)
        self._reported_at = 0
        self._reported_batches = 0

    def set_up(self) -> None:
        """Load the user's stage and make it ready; then tell everybody."""
        boot, plan = self._boot, self._plan
        placed = plan.workers[boot.replica]
        stage = load_stage(plan.use, plan.options, Path(boot.plan.base_dir))
        setup = getattr(stage, "setup", None)
        if setup is not None:
            setup(
                StageContext(
                    stage=plan.name,
                    replica=boot.replica,
                    threads=placed.threads,
                    device=placed.device,
                    max_batch=plan.batch.max_size,
                    cpus=placed.cpus,
                )
            )
        self._stage = stage
        self._concurrency = getattr(stage, "concurrency", 1)
        self._attach_stage()
        self._execution = Execution(
            plan, boot.stage, Routes.of(boot.plan).stages[boot.stage].base, stage, self._table
        )
        self._say_ready()

    def _attach(self, addresses: Sequence[tuple[str, str]]) -> None:
        self._buffers = []
        touched = {self._plan.name, *(edge.producer for edge in self._plan.edges)}
        for address, pool in zip(addresses, self._boot.plan.pools):
            segment = segments.attach(address)
            self._table.add(segment)
            if pool.name.partition("/")[0] in touched:
                map_pages(segment)
                self._buffers.append(segment.buffer)

    def _attach_stage(self) -> None:
        """Show the stage the memory that it will be given views of, where it cares."""
        attach = getattr(self._stage, "attach_memory", None)
        if attach is not None:
            attach(self._buffers)
        self._buffers = []

    def _say_ready(self) -> None:
        ready = Ready(self._boot.worker, self._boot.stage, self._boot.replica, os.getpid(), self._epoch)
        self._scheduler.send(ready)
        self._supervisor.send(ready)

    def _reset(self, message: Reset) -> None:
        """Another scheduler: its slots are others, and what the last one ordered is nobody's any more."""
        self._land_all()
        self._epoch = message.epoch
        self._inbox.clear()
        self._late.clear()
        self._table.close()
        self._attach([(pool.kind, pool.name) for pool in message.pools])
        self._attach_stage()
        self._say_ready()

    def run(self) -> None:
        """Work until told to stop."""
        freeze_heap()
        inbox, socket = self._inbox, self._socket
        clock = time.monotonic_ns
        idle_since = 0
        timeout = 0
        while True:
            for message in socket.receive(timeout):
                self._take(message)
            timeout = 0
            now = clock()
            landed = bool(self._flights) and self._land()
            batch = inbox.take(now) if len(self._flights) < self._concurrency else None
            if self._late and (len(self._late) >= self._late_limit or now >= self._late_at):
                self._tell_late()
            if batch is not None:
                self._closed[batch.reason] += 1
                self._compute(batch.rows)
                idle_since = 0
                continue
            if self._flights:
                if landed:
                    idle_since = 0
                elif not idle_since:
                    idle_since = now
                elif now - idle_since > _SPIN_NS:
                    # A batch that takes long is not worth a busy core.
                    time.sleep(_NAP_S)
                continue
            if self._stopping:
                return
            if not idle_since:
                idle_since = now
            timeout = self._wait_ms(now, idle_since)

    def _wait_ms(self, now: int, idle_since: int) -> int:
        """How long there is nothing to do unless something comes; does what can be done meanwhile."""
        wake = self._inbox.wake_at()
        if wake is not None:
            left = wake - now
            if left < 1_000_000:
                # Sockets wait in whole milliseconds; rounding up would add up to one to every small batch.
                time.sleep(max(0, min(left, 100_000)) / 1e9)
                return 0
            return left // 1_000_000
        if self._late:
            return _LATE_NS // 1_000_000
        if self._batches != self._reported_batches:
            if now - self._reported_at >= _REPORT_NS:
                self._report(now)
            return _REPORT_NS // 1_000_000
        if now - idle_since > _IDLE_COLLECT_NS:
            gc.collect()
        return _IDLE_WAIT_MS

    def _take(self, message: Message | WireError) -> None:
        kind = type(message)
        if kind is Orders:
            assert isinstance(message, Orders)
            if message.epoch == self._epoch:
                now = time.monotonic_ns()
                for order in message.orders:
                    self._inbox.add(order, now)
        elif isinstance(message, Fences):
            if message.epoch != self._epoch:
                return
            # The answer says that nothing of these is written any more.
            self._land_all()
            for fence in message.fences:
                self._inbox.fence(fence.request, fence.attempt)
            self._scheduler.send(Fenced(message.epoch, self._boot.worker, message.fences))
        elif isinstance(message, PeerGone):
            peer = self._peers.pop(message.worker, None)
            if peer is not None:
                peer.close()
            if self._late:
                # What was sent to the dead one is lost, and is ordered again once the scheduler knows it was sent.
                self._tell_late()
        elif isinstance(message, Reset):
            self._reset(message)
        elif isinstance(message, Stop):
            self._stopping = self._inbox.draining = True
        elif isinstance(message, WireError):
            self._refused += 1
            print(f"refused a message: {message}", file=sys.stderr)
        else:
            self._refused += 1
            print(f"did not expect a {kind.__name__}", file=sys.stderr)

    def _compute(self, rows: list[Waiting]) -> None:
        if self._concurrency > 1:
            self._launch(rows)
            return
        self._recorder.begin([row.order.request for row in rows], time.monotonic_ns())
        outcome = self._execution.run(rows)
        self._recorder.end()
        self._batches += 1
        self._rows += len(rows)
        self._pass_on(outcome)

    def _launch(self, rows: list[Waiting]) -> None:
        now = time.monotonic_ns()
        self._recorder.begin(self._flying() + [row.order.request for row in rows], self._oldest(now))
        outcome, flight = self._execution.start(rows)
        self._batches += 1
        self._rows += len(rows)
        if flight is None:
            self._recorder.end(self._flying(), self._oldest(now))
        else:
            self._flights.append(flight)
            self._inbox.flying += len(flight.rows)
        self._pass_on(outcome)

    def _land(self) -> bool:
        """Settle the batches that are over, in whatever order they end; whether there was one."""
        landed = False
        for flight in tuple(self._flights):
            outcome = self._execution.finish(flight)
            if outcome is not None:
                landed = True
                self._flights.remove(flight)
                self._inbox.flying -= len(flight.rows)
                self._recorder.end(self._flying(), self._oldest(0))
                self._pass_on(outcome)
        return landed

    def _land_all(self) -> None:
        """Wait for every batch in flight."""
        while self._flights:
            self._land()

    def _flying(self) -> list[int]:
        return [request for flight in self._flights for request in flight.requests]

    def _oldest(self, now: int) -> int:
        return self._flights[0].began if self._flights else now

    def _pass_on(self, outcome: Outcome) -> None:
        # Forward first: the next stage can begin while the scheduler is told.
        for number, orders in outcome.forwards.items():
            peer = self._peers.get(number)
            if peer is None:
                peer = self._peers[number] = Outbox(address_of(self._boot.run_dir, f"w{number}"))
            # False: it is dead. The scheduler knows or will know, and orders again.
            peer.send(Orders(self._epoch, tuple(orders)))
        if outcome.late:
            if not self._late:
                self._late_at = time.monotonic_ns() + _LATE_NS
            self._late += outcome.late
        if outcome.notices:
            self._tell_late(outcome.notices)

    def _tell_late(self, also: Sequence[Notice] = ()) -> None:
        """Send the notices that nobody has been waiting for, with those that somebody is."""
        notices, self._late = (*self._late, *also), []
        self._scheduler.send(Notices(self._epoch, self._boot.worker, notices))

    def _report(self, now: int) -> None:
        self._reported_at = now
        if self._batches != self._reported_batches:
            self._reported_batches = self._batches
            self._scheduler.send(
                WorkerReport(
                    self._boot.worker,
                    self._boot.stage,
                    self._batches,
                    self._rows,
                    tuple(self._closed[reason] for reason in CLOSE_REASONS),
                    self._refused + self._execution.refused,
                    self._execution.copies,
                )
            )

    def close(self) -> None:
        """Tear the stage down and let go of everything."""
        teardown = getattr(self._stage, "teardown", None)
        if teardown is not None:
            teardown()
        if self._late:
            self._tell_late()
        if self._stage is not None:
            self._report(time.monotonic_ns())
        for peer in self._peers.values():
            peer.close()
        self._scheduler.close(linger_ms=1000)
        self._recorder.close()
        self._records.close()
        self._table.close()


def main() -> None:
    """Entry point of the process."""
    boot_ = boot("")
    placed = boot_.plan.stages[boot_.stage].workers[boot_.replica]
    if placed.cpus:
        # Before anything starts threads, which inherit it. Refused by some sandboxes; then it runs anywhere.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, placed.cpus)
    socket = Socket(address_of(boot_.run_dir, f"w{boot_.worker}"))
    supervisor = Outbox(address_of(boot_.run_dir, "supervisor"))
    worker = None
    status = 0
    try:
        worker = _Worker(boot_, socket, supervisor)
        worker.set_up()
    except Exception as error:
        story = traceback.format_exc()[-_TRACEBACK_CHARACTERS:]
        supervisor.send(Failed(boot_.worker, f"{type(error).__name__}: {error}"[:_TRACEBACK_CHARACTERS], story))
        status = 1
    else:
        worker.run()
    if worker is not None:
        worker.close()
    supervisor.close(linger_ms=1000)
    socket.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
