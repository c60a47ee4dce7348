"""A session, and a test in the place of the sockets around it."""

from __future__ import annotations

from typing import Any

from pipeline.client.ask import Ask
from pipeline.client.draft import Draft
from pipeline.client.future import Pending
from pipeline.client.leases import Leases
from pipeline.client.session import Session
from pipeline.wire.interface import Axis, Interface, Tensor
from pipeline.wire.messages import OK, Answer, Answers, Message, SlotRef, Submission, Welcome
from shm.handle import TensorHandle
from shm.view import SegmentTable

__all__ = [
    "DATA", "EPOCH", "INTERFACE", "LARGE", "ME", "OUT", "OUT_SLOT", "POOLS", "SECOND", "SMALL", "WELCOME", "Talk", "ok",
    "slot", "submission",
]  # fmt: skip

ME = 7
EPOCH = 3
SMALL, LARGE = 1, 2
POOLS = [(64, SMALL, 16), (1024, LARGE, 2)]
DATA = Tensor("data", "uint8", (Axis("n", 1024),))
INTERFACE = Interface("demo", "1", (DATA,), (DATA,), ("work",))
WELCOME = Welcome(EPOCH, INTERFACE, (), ())
SECOND = 1_000_000_000
OUT = TensorHandle(9, 0, 1, 0, "uint8", (4,))
"""An answer's output."""
OUT_SLOT = SlotRef(9, 0, 1)


def slot(number: int, segment: int = SMALL) -> SlotRef:
    return SlotRef(segment, number, 1)


def submission(tag: int, granted: SlotRef) -> Submission:
    return Submission(tag, granted, (TensorHandle(*granted, 0, "uint8", (4,)),), 0, 0, "")


def ok(tag: int) -> Answer:
    return Answer(tag, OK, "", (OUT,), b"", "")


class Owner:
    def may_be_called(self) -> bool:
        return False


class Talk:
    """A client's session, told what a test says."""

    def __init__(self) -> None:
        self.now = 10 * SECOND
        self.leases = Leases(ME)
        self.session = Session("a client")
        #: Of the scheduler's last message.
        self.number = 0

    def said(self) -> list[Message]:
        """What the session says now."""
        messages = self.session.to_send()
        for message in messages:
            self.session.sent(message)
        assert not self.session.has_to_send
        return messages

    def attach(self) -> None:
        """There is a place in a run, and hello was said."""
        self.session.attached(self.leases)
        self.session.wake(self.now)
        self.said()

    def join(self) -> None:
        """Let in by a scheduler."""
        self.session.receive(WELCOME, self.now)
        self.session.join(INTERFACE, SegmentTable(), POOLS)
        self.number = 0

    def answered(self, *answers: Answer, grants: tuple[SlotRef, ...] = (), settled: int = 0) -> list[Pending]:
        """The next message of the scheduler."""
        self.number += 1
        return self.session.receive(Answers(self.number, answers, grants, settled), self.now)

    def after(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
        self.session.wake(self.now)

    def ask(self, seconds: float | None = None, segment: int = SMALL) -> Ask:
        end = None if seconds is None else self.now + round(seconds * SECOND)
        return self.session.ask(segment, self.now, end)

    def draft(self, granted: SlotRef) -> Draft:
        """A draft in a slot that was asked for: an ask, and a message of the scheduler's."""
        session = self.session
        waiting, flush = len(session._outgoing), session._flush
        ask = self.ask(segment=granted.segment)
        while len(session._outgoing) > waiting:
            session._outgoing.pop()
        session._flush = flush
        self.answered(grants=(granted,))
        grant = ask.take()
        assert grant is not None
        assert grant.slot == granted
        owner: Any = Owner()
        grant.draft = draft = Draft(owner, granted, (TensorHandle(*granted, 0, "uint8", (4,)),), {})
        return draft

    def pending(self) -> Pending:
        session = self.session
        return Pending(session.tag(), self.leases, session.table, session.interface, self.now)

    def submit(self, granted: SlotRef, *, flush: bool = True) -> Pending:
        """A request in such a slot."""
        pending = self.pending()
        self.session.submit(pending, self.draft(granted), 0, 0, "")
        if flush:
            self.session.flush()
        return pending
