"""What a driver stands on, in the place of a run's folder and its sockets: a test says what is there and what comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.client.driver import Driver
from pipeline.client.leases import Leases
from pipeline.client.queue import Queue
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.errors import Unavailable, WireError
from pipeline.wire.links import Outbox
from pipeline.wire.messages import Message
from tests.unit.pipeline.client.talk import INTERFACE, ME, SECOND

__all__ = ["MS", "FakeAccess", "Steps"]

MS = 1_000_000


class FakeConnection(Leases):
    """A place in a run's folder: what is sent there is kept."""

    def __init__(self) -> None:
        super().__init__(ME)
        self.run_dir = Path("/runs/demo-1")
        self.said: list[Any] = []

    def carry(self, session: Session) -> None:
        for message in session.to_send():
            self.said.append(message)
            session.sent(message)


class FakeInbox:
    """Messages that come by; at most three at once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.messages: deque[Message | WireError] = deque()

    @property
    def waiting(self) -> bool:
        return bool(self.messages)

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        assert timeout_ms == 0, "a driver never waits"
        return [self.messages.popleft() for _ in range(min(3, len(self.messages)))]

    def resumable(self) -> list[Outbox]:
        return []


class FakeAccess:
    """The way into a run, of which a test says how it is."""

    def __init__(self) -> None:
        self.by_path = False
        #: Whether there is a run.
        self.there = True
        self.is_over = self.scheduler_is_gone = self.is_replaced = self.is_coming = self.is_stopped = False
        self.follows = True
        #: Where it was sent, and whether it has said goodbye.
        self.moves: list[tuple[str, bool]] = []
        self.connection: FakeConnection | None = None
        self.looked = self.renewed = 0
        #: The next move is interrupted once its inbox is closed.
        self.breaks = False
        self.listens = False
        #: How often it was asked whether the scheduler is gone.
        self.goodbyes: list[bool] = []

    @property
    def is_final(self) -> bool:
        return self.connection is not None and self.is_over and self.by_path and not self.is_replaced

    def attach(self) -> None:
        self.looked += 1
        if not self.there:
            raise Unavailable("no pipeline 'demo' is running here")
        self.connection = FakeConnection()
        self.inbox = FakeInbox(100 + self.looked)
        self.listens = True
        self.is_over = self.scheduler_is_gone = False

    def move(self, successor: str, *, known: bool) -> None:
        self.moves.append((successor, known))
        self.listens = False
        if self.breaks:
            self.breaks = False
            del self.inbox
            raise KeyboardInterrupt
        self.connection = None

    def detach(self, *, known: bool) -> None:
        self.goodbyes.append(known)
        self.listens = False
        self.connection = None
        self.is_over = False

    def renew(self) -> None:
        self.renewed += 1

    def watch_scheduler(self) -> None:
        self.scheduler_is_gone = False


class Steps:
    """A driver, over what a test says, and its clock."""

    def __init__(self, patience_s: float = 5.0, pending: int = 100) -> None:
        self.now = 10 * SECOND
        self.access = FakeAccess()
        self.session = Session("a client")
        self.queue = Queue(self.session, pending)
        self.unwatched: list[int] = []
        access: Any = self.access
        self.driver = Driver(access, self.session, self.queue, patience_s, self.unwatched.append)

    def step(self, *messages: Message) -> list[Request]:
        """A step, after these messages have come."""
        if messages:
            self.access.inbox.messages.extend(messages)
        return self.driver.step(self.now)

    def after(self, ms: float) -> list[Request]:
        """A step so much later."""
        self.now += round(ms * MS)
        return self.step()

    def until(self, condition: Callable[[], object]) -> list[Request]:
        """Steps when the driver says that it has something to do, and not before; what has finished."""
        finished = []
        for _ in range(1000):
            if condition():
                return finished
            assert self.driver.next_at is not None, "it would wait for ever"
            self.now = max(self.now, self.driver.next_at)
            finished += self.step()
        raise AssertionError("it never came")

    def put(self, nbytes: int = 4, **options: Any) -> Request:
        """A request that waits."""
        request = Request({"data": np.zeros(nbytes, np.uint8)}, INTERFACE.specs, **options)
        self.queue.put(request, self.now)
        return request

    @property
    def said(self) -> list[Any]:
        """What was sent since this was last asked."""
        connection = self.access.connection
        assert connection is not None
        said, connection.said = connection.said, []
        return said
