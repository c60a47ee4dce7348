"""A pipeline in the client's own thread: the real scheduler and executions, run while the client waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.client.client import Client as RealClient
from pipeline.errors import WireError
from pipeline.graph.plan import Plan
from pipeline.inprocess.workers import LocalWorkers
from pipeline.scheduler.door import STRANGER, Connect, Decided, Disconnect, Log
from pipeline.wire.address import CLIENT, SCHEDULER, Address
from pipeline.wire.links import Inbox, Outbox, connect, listen
from pipeline.wire.messages import Again, AskStatus, Bye, Cancel, Hello, Loan, Message, Submit
from pipeline.wire.run_dir import LOCK, lock_path
from pipeline.wire.zeromq import Pull
from shm.owner import OwnerLock
from tests.unit.pipeline.scheduler.graphs import Hash

__all__ = ["Client", "ClientInbox", "Pipeline", "arrived", "arrived_without_client", "owner_lock"]


class Pipeline(LocalWorkers):
    """One life of a scheduler, with one worker a stage. `held` keeps its answers back."""

    def __init__(self, run_dir: Path, plan: Plan, epoch: int = 0) -> None:
        super().__init__(plan, [Hash(stage) for stage in plan.stages], epoch=epoch)
        self.held = False
        self._run_dir = run_dir
        self._inbox = listen(run_dir, SCHEDULER)
        self._clients: dict[int, Outbox] = {}
        self._lock = OwnerLock.acquire(lock_path(run_dir, SCHEDULER))

    def die(self) -> None:
        """As by kill -9: the lock is free, and the scheduler says nothing."""
        # The file stays, and no process holds a lock on it.
        self._lock._forget()
        self._inbox.close()
        for outbox in self._clients.values():
            outbox.close()
        self.close()

    def step(self) -> None:
        """Take in what has come, and do everything that follows from it."""
        for message in self._inbox.receive():
            # A client that is slow says hello in the form of older versions too, which this one does not read.
            if not isinstance(message, WireError):
                assert isinstance(message, (Hello, Loan, Submit, Cancel, Again, Bye, AskStatus))
                self.handle(message)
        if not self.held:
            self.work(self._send)

    def _send(self, decided: Decided) -> None:
        (kind, client), message = decided
        if kind not in (CLIENT, STRANGER) or isinstance(message, (Connect, Disconnect, Log)):
            return
        if client not in self._clients:
            self._clients[client] = connect(self._run_dir, Address.client(client))
        self._clients[client].send(message)

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


class Client(RealClient):
    """A client whose pipeline works while it waits."""

    # The tensors of these graphs have 16 bytes, and would all be copied out of their slots.
    _copied_bytes = 0

    @staticmethod
    def _listen(run_dir: Path, address: Address) -> Inbox:
        return ClientInbox(run_dir, address, signalled=True)


class CopyingClient(Client):
    """A client that copies those tensors."""

    _copied_bytes = 16


class ImpatientClient(Client):
    """A client that finds out soon that it waits for itself."""

    _own_fault_ns = 50_000_000


def owner_lock(run_dir: Path) -> OwnerLock:
    """The supervisor's lock: without it, a client does not wait for the pipeline."""
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
