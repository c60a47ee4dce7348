"""A carrier moves what a session says, and has a place in the run that the session is told of."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from pipeline.client.carrier import Carrier
from pipeline.client.leases import Leases
from pipeline.client.session import Session
from pipeline.errors import Unavailable
from pipeline.wire.messages import PROTOCOL, Again, Answers, Hello, Refused
from tests.unit.pipeline.client.loopback import Client, Pipeline, arrived_without_client
from tests.unit.pipeline.client.talk import ME, Talk, slot
from tests.unit.pipeline.scheduler.evaluation import expected_answer

X = bytes(range(1, 17))
Y = bytes(range(101, 117))


class Place(Leases):
    """In place of a `Connection`."""

    run_dir = Path("/run/demo-1")

    def __init__(self, log: list[Any]) -> None:
        super().__init__(ME)
        self.log = log

    def carry(self, session: Session) -> None:
        """Send what a session has to say."""
        for message in session.to_send():
            self.log.append(message)
            session.sent(message)


class Access:
    """In place of an `Access`: notes what becomes of the place."""

    def __init__(self) -> None:
        self.connection: Place | None = None
        self.log: list[Any] = []
        self.is_over = False
        self.follows = True

    def attach(self) -> None:
        self.connection = Place(self.log)
        self.log.append("attach")

    def detach(self, *, known: bool) -> None:
        self.connection = None
        self.log.append(("detach", known))

    def move(self, successor: str, *, known: bool) -> None:
        self.connection = None
        self.log.append(("move", successor, known))

    def renew(self) -> None:
        self.log.append("renew")


def made() -> tuple[Carrier, Access, Session]:
    access, session = Access(), Session("a client")
    return Carrier(access, session), access, session  # type: ignore[arg-type]


def let_in(carrier: Carrier, access: Access) -> Talk:
    """As by a welcome."""
    talk = Talk()
    talk.leases = access.connection = Place(access.log)
    talk.attach()
    talk.join()
    carrier.session = talk.session
    access.log.clear()
    return talk


def test_a_place_is_taken_once_and_the_session_is_told_of_it() -> None:
    carrier, access, session = made()
    carrier.attach()
    carrier.attach()
    assert access.log == ["attach"]
    assert session.leases is carrier.there
    # Taken before, by a call that was interrupted then.
    session.leases = None
    carrier.attach()
    assert session.leases is carrier.there
    carrier.detach()
    assert (session.leases, access.log) == (None, ["attach", ("detach", False)])


def test_what_is_due_is_said_and_the_scheduler_can_reach_the_client() -> None:
    carrier, access, _ = made()
    carrier.attach()
    carrier.wake(1)
    # In this order: without its lock and socket the scheduler lets no client in.
    assert access.log == ["attach", "renew", Hello(ME, "a client")]
    carrier.wake(2)
    assert len(access.log) == 3


def test_a_run_that_never_lets_the_client_in_is_told_apart_from_one_that_does_not_yet() -> None:
    carrier, access, session = made()
    carrier.attach()
    carrier.check()
    session.receive(Refused(PROTOCOL, "no worker is ready yet of: a", -1), 1)
    carrier.check()
    assert "/run/demo-1 is not ready: no worker is ready yet of: a;" in str(carrier.not_ready())
    access.is_over = True
    with pytest.raises(Unavailable, match="has stopped"):
        carrier.check()
    session.receive(Refused(PROTOCOL + 1, "", -1), 1)
    with pytest.raises(Unavailable, match="version"):
        carrier.check()


def test_a_client_that_was_let_in_is_not_concerned_by_the_end_of_its_run() -> None:
    carrier, access, _ = made()
    let_in(carrier, access)
    access.is_over = True
    carrier.check()


def test_the_goodbye_is_said_to_a_scheduler_that_knows_the_client() -> None:
    carrier, access, _ = made()
    let_in(carrier, access)
    carrier.leave(1)
    assert access.log == [("detach", True)]
    carrier, access, _ = made()
    carrier.attach()
    carrier.leave(1)
    assert access.log == ["attach", ("detach", False)]


def test_a_client_leaves_for_the_run_that_has_taken_over() -> None:
    carrier, access, _ = made()
    let_in(carrier, access)
    session = carrier.session
    assert not carrier.replaced
    session.receive(Answers(session.there.seen + 1, (), (), 0, "demo-2"), 1)
    assert carrier.replaced
    access.follows = False
    assert not carrier.replaced
    access.follows = True
    carrier.depart()
    assert access.log[-1] == ("move", "demo-2", True)
    assert (session.leases, session.successor, session.lost is None) == (None, "", False)


def test_what_was_kept_back_goes_with_a_flush_and_after_an_interruption_everything() -> None:
    carrier, access, _ = made()
    talk = let_in(carrier, access)
    pending = talk.submit(slot(0), flush=False)
    carrier.send()
    assert access.log == []
    carrier.flush()
    assert [type(message).__name__ for message in access.log] == ["Submit"]
    carrier.mend()
    assert [type(message).__name__ for message in access.log] == ["Submit", "Again"]
    carrier.cancel(pending.tag)
    assert [type(message).__name__ for message in access.log] == ["Submit", "Again", "Cancel"]


def pump_for_ever(client: Client) -> None:
    while True:
        client.pump(0.1)


def test_a_client_that_is_let_go_of_keeps_what_it_reads_and_writes_and_comes_back_as_another(
    client: Client, pipeline: Pipeline
) -> None:
    result = client.submit(x=X, y=Y).get(10)
    draft = client.draft(x=(16,), y=(16,))
    filled = draft.inputs["x"][:]
    number = client._exchange.there.number
    # As if it had lost what it has confirmed.
    pipeline.handle(Again(number, 0))
    with pytest.raises(Unavailable, match="the scheduler has let go of this client"):
        pump_for_ever(client)
    client.reconnect(10)
    assert client._exchange.there.number != number
    in_use = sum(pipeline.in_use)
    for each in range(20):
        with client.submit(x=bytes([each]) * 16, y=Y).get(10) as other:
            filled[...] = 255
            assert {name: array.tobytes() for name, array in other.items()} == expected_answer(
                pipeline.plan, {"x": bytes([each]) * 16, "y": Y}
            )
    assert {name: array.tobytes() for name, array in result.items()} == expected_answer(pipeline.plan, {"x": X, "y": Y})
    assert in_use
    del result, other, draft, filled
    gc.collect()
    client.close()
    arrived_without_client(pipeline, lambda: not any(pipeline.in_use))


def test_what_was_held_back_on_its_way_goes_on_when_the_inbox_says_so() -> None:
    class Inbox:
        held: tuple[str, ...] = ()

        def receive(self, timeout_ms: int) -> list[Any]:
            return [timeout_ms]

        def resumable(self) -> tuple[str, ...]:
            return self.held

    class Resumed(Place):
        def proceed(self) -> None:
            self.log.append("proceed")

    access: Any = Access()
    access.inbox, access.connection = Inbox(), Resumed(access.log)
    carrier = Carrier(access, Session("a client"))
    assert carrier.receive(7) == [7]
    assert access.log == []
    access.inbox.held = ("the way to the scheduler",)
    assert carrier.receive() == [0]
    assert access.log == ["proceed"]
