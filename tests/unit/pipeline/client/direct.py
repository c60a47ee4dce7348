"""A client's session and queue, and the real scheduler and executions, with a test in the place of the sockets."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from pipeline.client.answering import result_of
from pipeline.client.leases import Leases
from pipeline.client.queue import Queue
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.graph.plan import Plan
from pipeline.inprocess.workers import LocalWorkers
from pipeline.scheduler.door import STRANGER, Connect, Decided, Disconnect, Log
from pipeline.wire.address import CLIENT
from pipeline.wire.messages import Order, Orders, Welcome
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import Hash, make_plan

__all__ = ["ME", "Direct", "x_of"]

ME = 7


def x_of(number: int) -> bytes:
    """The inputs of requests differ."""
    return number.to_bytes(2, "big").rjust(16, b"x")


class Direct:
    """One client of one scheduler at a time. Messages move when a test says so; the clock is the machine's, until a
    test stops it, plus what the test adds (`later`)."""

    def __init__(self, plan: Plan | None = None, pending: int = 100) -> None:
        self.plan = plan or make_plan("chain", slots=8, credits=4)
        self.session = Session("a client")
        self.queue = Queue(self.session, pending)
        self.leases = Leases(ME)
        self.epoch = 0
        self.later = 0
        self._stopped_at: int | None = None
        #: On their way to the client.
        self.coming: deque[Any] = deque()
        self.workers: LocalWorkers | None = None
        #: What its workers are about to compute.
        self.held: list[tuple[int, Order]] = []
        self.ended: list[LocalWorkers] = []

    @property
    def now(self) -> int:
        return (time.monotonic_ns() if self._stopped_at is None else self._stopped_at) + self.later

    def stop_clock(self) -> None:
        """From here on time passes by `after` alone, however slow the machine is."""
        self._stopped_at = time.monotonic_ns()

    def after(self, seconds: float) -> None:
        self.later += round(seconds * 1e9)
        self.session.wake(self.now)

    # -- the scheduler ------------------------------------------------------------------------------

    def start(self, plan: Plan | None = None) -> None:
        """The next scheduler."""
        self.epoch += 1
        self.plan = plan or self.plan
        self.workers = LocalWorkers(self.plan, [Hash(stage) for stage in self.plan.stages], epoch=self.epoch)

    def die(self) -> None:
        """The scheduler dies, and the client notices; what it has said is lost."""
        assert self.workers is not None
        self.ended.append(self.workers)
        self.workers = None
        self.coming.clear()
        self.held.clear()
        self.session.scheduler_gone(self.now)

    def send(self) -> None:
        """What the client says reaches the scheduler."""
        for message in self.session.to_send():
            self.session.sent(message)
            if self.workers is not None:
                self.workers.handle(message)

    def work(self) -> None:
        """The scheduler decides and its workers compute, until there is nothing left to do."""
        if self.workers is not None:
            orders, self.held = self.held, []
            for number, order in orders:
                self.workers._compute(number, order)
            self.workers.work(self._take)

    def decide(self) -> None:
        """The scheduler decides, such as who gets a slot, and its workers compute nothing yet."""
        assert self.workers is not None
        for receiver, message in self.workers.scheduler.decide(self.now):
            if isinstance(message, Orders):
                self.held += [(receiver.number, order) for order in message.orders]
            else:
                self._take((receiver, message))

    def _take(self, decided: Decided) -> None:
        (kind, _), message = decided
        if kind in (CLIENT, STRANGER) and not isinstance(message, (Connect, Disconnect, Log)):
            self.coming.append(message)

    # -- the client -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Let the client in."""
        if self.session.leases is None:
            self.session.attached(self.leases)
        while self.session.lost is not None:
            self.after(1)
            self.send()
            self.work()
            self.receive()

    def receive(self, most: int = 1000) -> list[Request]:
        """The client takes in messages; the requests that are over."""
        done = []
        while self.coming and most:
            most -= 1
            message = self.coming.popleft()
            done += self.queue.finished(self.session.receive(message, self.now), self.now)
            if (welcome := self.session.welcome) is not None:
                self._join(welcome)
        return done

    def _join(self, welcome: Welcome) -> None:
        workers = self.workers
        assert workers is not None
        ingress = {(address.kind, address.name) for address in welcome.ingress}
        pools = sorted(
            (segment.layout.slot_bytes, segment.number, segment.layout.slots)
            for segment in workers._made
            if tuple(segment.address) in ingress
        )
        self.session.join(welcome.interface, workers.table, pools)

    def step(self) -> list[Request]:
        """Everything once: as the code around a session and a queue does."""
        done = self.queue.go_on(self.now)
        self.session.wake(self.now)
        self.send()
        self.work()
        done += self.receive()
        done += self.queue.go_on(self.now)
        self.send()
        return done

    def request(self, number: int, **options: Any) -> Request:
        specs = self.session.specs
        arrays = {name: np.frombuffer(x_of(number), np.uint8) for name in specs}
        return Request(arrays, specs, owner=number, **options)

    def infer(self, number: int, **options: Any) -> Request:
        """As a call of an application: into a slot at once, otherwise into the queue."""
        request = self.request(number, **options)
        if self.queue.reserve(request):
            assert request.draft is not None
            for name, view in request.draft.inputs.items():
                view[...] = request.inputs[name]
            if self.queue.submit(request, self.now):
                return request
        self.queue.put(request, self.now)
        return request

    def outputs(self, request: Request) -> dict[str, bytes]:
        """What has been answered; its slots come back."""
        error = request.error()
        if error is not None:
            raise error
        assert request.pending is not None
        values = {name: value.tobytes() for name, value in result_of(request.pending, 1 << 30).items()}
        request.pending.leases = {}
        return values

    @property
    def in_use(self) -> list[int]:
        assert self.workers is not None
        return [pool.in_use for pool in self.workers.pools]

    def close(self) -> None:
        for workers in (*self.ended, *([self.workers] if self.workers else [])):
            workers.close()


def expected(direct: Direct, number: int) -> dict[str, bytes]:
    return expected_answer(direct.plan, dict.fromkeys(direct.session.specs, x_of(number)))


def fill(direct: Direct, count: int) -> list[Request]:
    """So many requests, the scheduler's answers kept back."""
    requests = []
    for number in range(count):
        requests.append(direct.infer(number))
        for _ in range(3):
            direct.queue.go_on(direct.now)
            direct.send()
            direct.decide()
            direct.receive()
    return requests


def until(direct: Direct, requests: list[Request]) -> list[Request]:
    done = []
    for _ in range(100):
        done += direct.step()
        if all(request.done for request in requests):
            return done
    raise AssertionError(f"not done: {[request for request in requests if not request.done]}")
