"""A pipeline in the client's own thread: the real scheduler and executions, run while the client waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.client.client import Client
from pipeline.errors import WireError
from pipeline.graph.plan import Plan
from pipeline.scheduler.door import CLIENT, STRANGER, Connect, Disconnect, Log
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.links import Outbox, connect, listen
from pipeline.wire.messages import (
    Again,
    AskStatus,
    Bye,
    Hello,
    Loan,
    Message,
    Notices,
    Order,
    Orders,
    PoolAddress,
    Ready,
    Submit,
)
from pipeline.wire.run_dir import LOCK, lock_path
from pipeline.wire.zeromq import Pull
from pipeline.worker.execution import Execution
from pipeline.worker.peers import Waiting
from shm import segments
from shm.owner import OwnerLock
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from tests.unit.pipeline.scheduler.graphs import Hash

__all__ = ["ClientInbox", "Pipeline", "arrived", "arrived_without_client", "owner_lock"]


class Pipeline:
    """One life of a scheduler, with one worker a stage. `held` keeps its answers back."""

    def __init__(self, run_dir: Path, plan: Plan, epoch: int = 0) -> None:
        self.plan = plan
        self.epoch = epoch
        self.held = False
        self.now = 1
        self._run_dir = run_dir
        self._made = [
            segments.create("local", SegmentSpec("loop", pool.name.replace("/", "-"), pool.slot_bytes, pool.slots))
            for pool in plan.pools
        ]
        self._table = SegmentTable()
        for segment in self._made:
            self._table.add(segment)
        self.pools = [SlotPool(segment) for segment in self._made]
        addresses = [PoolAddress(*segment.address, pool.name) for segment, pool in zip(self._made, plan.pools)]
        self.scheduler = Scheduler(plan, self.pools, [segment.number for segment in self._made], epoch, addresses)
        self._executions = []
        for index, stage in enumerate(plan.stages):
            base = self.scheduler.routes.stages[index].base
            self._executions.append(Execution(stage, index, base, Hash(stage), self._table))
            self.scheduler.handle(Ready(index, index, 0, 1, epoch), 1)
        self._inbox = listen(run_dir, SCHEDULER)
        self._clients: dict[int, Outbox] = {}
        self._lock = OwnerLock.acquire(lock_path(run_dir, SCHEDULER))

    def die(self) -> None:
        """As by kill -9: the lock is free, nobody is told."""
        # The file stays, and no process holds a lock on it.
        self._lock._forget()
        self._inbox.close()
        for outbox in self._clients.values():
            outbox.close()
        self._table.close()
        for segment in self._made:
            segment.unlink()

    def step(self) -> None:
        """Take in what has come, and do all there is to do."""
        for message in self._inbox.receive():
            assert not isinstance(message, WireError)
            self._take(message)
        while not self.held:
            computed = False
            for receiver, message in self.scheduler.decide(self.now):
                if isinstance(message, Orders):
                    self._compute(receiver.number, message.orders)
                    computed = True
                elif receiver.kind in (CLIENT, STRANGER) and not isinstance(message, (Connect, Disconnect, Log)):
                    self._send(receiver.number, message)
            if not computed:
                return

    def _take(self, message: Message) -> None:
        assert isinstance(message, (Hello, Loan, Submit, Again, Bye, AskStatus))
        self.scheduler.handle(message, self.now)

    def _send(self, client: int, message: Message) -> None:
        if client not in self._clients:
            self._clients[client] = connect(self._run_dir, Address.client(client))
        self._clients[client].send(message)

    def _compute(self, number: int, orders: Sequence[Order]) -> None:
        outcome = self._executions[number].run([Waiting(order, self.now) for order in orders])
        for following, forwarded in outcome.forwards.items():
            self._compute(following, forwarded)
        self.scheduler.handle(Notices(self.epoch, number, tuple(outcome.late + outcome.notices)), self.now)

    @property
    def in_use(self) -> list[int]:
        """Slots that are out, by pool."""
        return [pool.in_use for pool in self.pools]


class ClientInbox(Pull):
    """The client's inbox: while the client waits, `running` works."""

    running: Pipeline | None = None

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        if ClientInbox.running is not None:
            ClientInbox.running.step()
        return super().receive(min(timeout_ms, 2))


def owner_lock(run_dir: Path) -> OwnerLock:
    """The supervisor's lock: without it, nobody waits for the pipeline."""
    return OwnerLock.acquire(run_dir / LOCK)


def arrived(client: Client, pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    """Wait until what the client has sent has been dealt with."""
    for _ in range(2000):
        if condition():
            return
        client.pump(0.002)
    raise AssertionError(f"it never came; slots in use: {pipeline.in_use}")


def arrived_without_client(pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    """As `arrived`, with no call of a client in between."""
    for _ in range(2000):
        pipeline.step()
        if condition():
            return
        time.sleep(0.002)
    raise AssertionError(f"it never came; slots in use: {pipeline.in_use}")
