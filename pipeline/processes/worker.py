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

from pipeline.errors import WireError
from pipeline.processes.child import Boot, boot, freeze_heap
from pipeline.scheduler.routes import Routes
from pipeline.wire.messages import (
    Failed,
    Fenced,
    Fences,
    Message,
    Notices,
    Orders,
    PeerGone,
    Ready,
    Stop,
    WorkerReport,
)
from pipeline.wire.sockets import Inbox as Socket
from pipeline.wire.sockets import Outbox, Poller, address_of
from pipeline.worker.execution import Execution
from pipeline.worker.inbox import CLOSE_REASONS, Inbox
from pipeline.worker.recorder import Recorder
from shm import segments
from shm.view import SegmentTable
from stages.loading import load_stage
from stages.stage import Stage, StageContext

__all__ = ["main"]

_REPORT_NS = 100_000_000
_IDLE_COLLECT_NS = 1_000_000_000
_IDLE_WAIT_MS = 2000


class _Worker:
    """The loop, and everything it holds."""

    def __init__(self, boot: Boot, socket: Socket, supervisor: Outbox) -> None:
        self._boot = boot
        self._plan = boot.plan.stages[boot.stage]
        self._socket = socket
        self._supervisor = supervisor
        self._scheduler = Outbox(address_of(boot.run_dir, "scheduler"))
        self._peers: dict[int, Outbox] = {}
        self._inbox = Inbox(
            self._plan.batch.max_size, int(self._plan.batch.max_delay_ms * 1e6), self._plan.credits
        )
        self._table = SegmentTable()
        for address in boot.segments[:-1]:
            self._table.add(segments.attach(address))
        self._records = segments.attach(boot.segments[-1])
        self._recorder = Recorder(self._records.slot(boot.record))
        self._stage: Stage | None = None
        self._stopping = False
        self._batches = 0
        self._rows = 0
        self._refused = 0
        self._closed = dict.fromkeys(CLOSE_REASONS, 0)
        self._reported_at = 0
        self._reported_batches = 0

    def set_up(self) -> None:
        """Load the user's stage and make it ready; then tell everybody."""
        boot, plan = self._boot, self._plan
        placed = plan.workers[boot.replica]
        stage = load_stage(plan.use, plan.options, _base_dir(boot))
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
        self._execution = Execution(
            plan, boot.stage, Routes.of(boot.plan).stages[boot.stage].base, stage, self._table
        )
        ready = Ready(boot.worker, boot.stage, boot.replica, os.getpid())
        self._scheduler.send(ready)
        self._supervisor.send(ready)

    def run(self) -> None:
        """Work until told to stop."""
        freeze_heap()
        poller = Poller()
        poller.add(self._socket)
        poller.add(self._boot.lifeline)
        inbox = self._inbox
        clock = time.monotonic_ns
        idle_since = 0
        while True:
            for message in self._socket.drain():
                self._take(message)
            batch = inbox.take(clock())
            if batch is not None:
                self._closed[batch.reason] += 1
                self._compute(batch.rows)
                idle_since = 0
                continue
            if self._stopping:
                return
            now = clock()
            if now - self._reported_at >= _REPORT_NS:
                self._report(now)
            if not idle_since:
                idle_since = now
            elif now - idle_since > _IDLE_COLLECT_NS:
                gc.collect()
                idle_since = now
            wake = inbox.wake_at()
            # poll counts in milliseconds: a wait rounded up would add up to one to every small batch.
            if wake is None:
                timeout = _IDLE_WAIT_MS if self._batches == self._reported_batches else _REPORT_NS / 1e6
            else:
                timeout = (wake - now) / 1e6
            if 0 < timeout < 1:
                time.sleep(min(timeout / 1000, 0.0001))
                continue
            if self._boot.lifeline in poller.wait(int(timeout)):
                sys.exit(3)

    def _take(self, message: Message | WireError) -> None:
        kind = type(message)
        if kind is Orders:
            assert isinstance(message, Orders)
            if message.epoch == self._boot.epoch:
                now = time.monotonic_ns()
                for order in message.orders:
                    self._inbox.add(order, now)
        elif isinstance(message, Fences):
            for fence in message.fences:
                self._inbox.fence(fence.request, fence.attempt)
            self._scheduler.send(Fenced(message.epoch, self._boot.worker, message.fences))
        elif isinstance(message, PeerGone):
            peer = self._peers.pop(message.worker, None)
            if peer is not None:
                peer.close()
        elif isinstance(message, Stop):
            self._stopping = self._inbox.draining = True
        elif isinstance(message, WireError):
            self._refused += 1
            print(f"refused a message: {message}", file=sys.stderr)
        else:
            self._refused += 1
            print(f"did not expect a {kind.__name__}", file=sys.stderr)

    def _compute(self, rows: list) -> None:  # type: ignore[type-arg]
        self._recorder.begin([row.order.request for row in rows], time.monotonic_ns())
        outcome = self._execution.run(rows)
        self._recorder.end()
        # Forward first: the next stage can begin while the scheduler is told.
        for number, orders in outcome.forwards.items():
            peer = self._peers.get(number)
            if peer is None:
                peer = self._peers[number] = Outbox(address_of(self._boot.run_dir, f"w{number}"))
            # False: it is dead. The scheduler knows or will know, and orders again.
            peer.send(Orders(self._boot.epoch, tuple(orders)))
        self._scheduler.send(Notices(self._boot.epoch, self._boot.worker, tuple(outcome.notices)))
        self._batches += 1
        self._rows += len(rows)

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
                )
            )

    def close(self) -> None:
        """Tear the stage down and let go of everything."""
        teardown = getattr(self._stage, "teardown", None)
        if teardown is not None:
            teardown()
        if self._stage is not None:
            self._report(time.monotonic_ns())
        for peer in self._peers.values():
            peer.close()
        self._scheduler.close(linger_ms=1000)
        self._recorder.close()
        self._records.close()
        self._table.close()


def _base_dir(boot: Boot):  # type: ignore[no-untyped-def]
    from pathlib import Path

    return Path(boot.plan.base_dir)


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
        supervisor.send(Failed(boot_.worker, f"{type(error).__name__}: {error}", traceback.format_exc()))
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
