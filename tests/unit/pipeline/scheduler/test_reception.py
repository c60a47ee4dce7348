"""Clients come, say what they want, and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.scheduler.door import SHELL, ClientGone, Connect, Disconnect, Limits, Log, stranger
from pipeline.scheduler.reception import LOST
from pipeline.scheduler.state import NO_CLIENT
from pipeline.wire.address import Address
from pipeline.wire.labels import short_name
from pipeline.wire.messages import (
    HELLO,
    PROTOCOL,
    Again,
    Answers,
    AskStatus,
    Bye,
    Gone,
    Hello,
    Loan,
    Message,
    PoolAddress,
    Refused,
    SlotRef,
    Status,
    Stop,
    Submit,
    Welcome,
)
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_a_client_is_connected_and_welcomed(example: Make) -> None:
    scheduler = example(epoch=4)
    scheduler.handle(Hello(2, "app"))
    scheduler.decide()
    (connect, (receiver, welcome)) = scheduler.decided
    assert connect == (SHELL, Connect(2))
    assert receiver == Address.client(2)
    assert isinstance(welcome, Welcome)
    assert (welcome.epoch, welcome.ingress[0]) == (4, PoolAddress("local", "p0", "ingress/0"))


def test_no_client_has_the_number_that_stands_for_none(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Hello(NO_CLIENT, "none"))
    assert scheduler.decide() == []
    assert NO_CLIENT not in scheduler.scheduler.ingress.clients
    assert scheduler.scheduler.counts["refused_strangers"] == 1


def test_a_name_of_a_client_is_cut_so_that_a_status_fits_a_frame(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Hello(2, "x" * 4_000_000))
    scheduler.decide()
    assert scheduler.scheduler.ingress.clients[2].name == short_name("x" * 4_000_000)


def test_a_client_that_comes_early_is_let_in_when_every_stage_has_a_worker(example: Make) -> None:
    scheduler = example(ready=False)
    scheduler.ready(1, 1)
    scheduler.handle(Hello(2, "app"))
    scheduler.decide()
    # It knows what it waits for.
    assert scheduler.decided == [(stranger(2), Refused(PROTOCOL, "no worker is ready yet of: a, c", HELLO))]
    scheduler.handle(Hello(2, "app"))
    scheduler.ready(0, 0)
    assert scheduler.decide() == ["stranger 2: Refused"]
    scheduler.ready(2, 2)
    assert scheduler.decide() == ["connect client 2", "client 2: Welcome"]


def test_of_early_clients_as_many_are_kept_as_there_are_descriptors_for(example: Make) -> None:
    scheduler = example(ready=False, limits=Limits(clients=1, strangers=9))
    for number in (2, 3):
        scheduler.handle(Hello(number, "app"))
    scheduler.decide()
    for stage in range(3):
        scheduler.ready(stage, stage)
    # The other one says hello again, as all clients do that wait.
    assert scheduler.decide() == ["connect client 2", "client 2: Welcome"]


def test_an_early_client_that_has_left_again_is_not_let_in(example: Make) -> None:
    scheduler = example(ready=False)
    scheduler.handle(Hello(2, "app"))
    scheduler.handle(Bye(2, ()))
    scheduler.decide()
    for stage in range(3):
        scheduler.ready(stage, stage)
    assert scheduler.decide() == []


def test_more_clients_than_there_are_descriptors_for_wait_and_that_is_said_once(example: Make) -> None:
    scheduler = example(limits=Limits(clients=2, strangers=9))
    scheduler.joins(2)
    scheduler.handle(Hello(3, "third"))
    scheduler.handle(Hello(3, "third"))
    scheduler.decide()
    ((receiver, log), *told) = scheduler.decided
    assert receiver == SHELL
    assert isinstance(log, Log)
    assert log.text.startswith("client third waits to be let in: 2 clients are what this process has descriptors for")
    assert told == [(stranger(3), Refused(PROTOCOL, log.text, HELLO))] * 2
    scheduler.handle(ClientGone(2))
    assert scheduler.decide()[0] == "disconnect client 2"
    scheduler.handle(Hello(3, "third"))
    assert scheduler.decide() == ["connect client 3", "client 3: Welcome"]
    # One has left since: that another one waits is said again.
    scheduler.handle(Hello(4, "fourth"))
    scheduler.decide()
    assert [type(message) for _, message in scheduler.decided] == [Log, Refused]


@pytest.mark.parametrize(
    "message",
    [Submit(9, 0, (), (SlotRef(100, 0, 1),)), Loan(9, 100, 1, True), Again(9, 0)],
    ids=["Submit", "Loan", "Again"],
)
def test_a_client_that_another_scheduler_welcomed_is_told_so(example: Make, message: Message) -> None:
    scheduler = example(epoch=4)
    scheduler.handle(message)
    scheduler.decide()
    assert scheduler.decided == [(stranger(9), Gone(4))]


def test_strangers_are_answered_so_many_at_a_time(example: Make) -> None:
    scheduler = example(limits=Limits(clients=9, strangers=2))
    for number in (7, 8, 9, -1):
        scheduler.handle(Loan(number, 100, 1, True))
    assert scheduler.decide() == ["stranger 7: Gone", "stranger 8: Gone"]
    assert scheduler.scheduler.counts["refused_strangers"] == 2
    scheduler.now += 251 * MS
    scheduler.handle(Loan(9, 100, 1, True))
    assert scheduler.decide() == ["stranger 9: Gone"]


def test_all_are_told_how_things_are(example: Make) -> None:
    scheduler = example()
    scheduler.handle(AskStatus(1))
    scheduler.handle(AskStatus(9))
    assert scheduler.decide() == ["client 1: Status", "stranger 9: Status"]
    status = scheduler.decided[0][1]
    assert isinstance(status, Status)
    assert status.status.pipeline == "demo"


def test_what_a_client_held_comes_back_when_it_dies_and_what_waits_for_it_is_dropped(example: Make) -> None:
    scheduler = example(credits=1)
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.handle(ClientGone(1))
    # The slot in its hand, and the slot of the request that was not ordered.
    assert scheduler.free("ingress/0") == 2
    assert scheduler.decide() == ["disconnect client 1"]
    # The workers still compute what was ordered, and it is dropped.
    scheduler.finish(2, 1)
    assert scheduler.decide() == []
    assert all(pool.free == pool.slots for pool in scheduler.pools)
    assert scheduler.scheduler.counts["client_deaths"] == 1


def test_a_client_that_is_not_known_cannot_go(example: Make) -> None:
    scheduler = example()
    scheduler.handle(ClientGone(9))
    scheduler.handle(Bye(9, ()))
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["client_deaths"] == 0


def test_what_a_client_still_reads_when_it_says_goodbye_it_keeps(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1)
    scheduler.decide()
    slot = SlotRef(103, 0, 1)
    scheduler.handle(Bye(1, (slot,)))
    assert scheduler.decide() == []
    out = scheduler.plan.pools[3].slots - scheduler.free("c")
    scheduler.handle(Submit(1, 0, (), (slot,)))
    scheduler.handle(Bye(1, ()))
    assert (out, scheduler.plan.pools[3].slots - scheduler.free("c")) == (1, 0)
    assert scheduler.decide() == ["disconnect client 1"]
    assert scheduler.scheduler.counts["client_deaths"] == 0


def test_a_slot_that_a_closed_client_may_still_write_is_no_other_clients_until_it_says_so(example: Make) -> None:
    scheduler = example()
    written, *others = scheduler.granted[1]
    scheduler.handle(Bye(1, (written,)))
    scheduler.decide()
    assert scheduler.free("ingress/0") == len(others)
    scheduler.joins(2)
    assert written.slot not in {slot.slot for slot in scheduler.granted[2]}
    # It sends no request any more, so that a run that is replaced need not wait for it.
    scheduler.handle(Bye(2, ()))
    assert not scheduler.scheduler._reception.may_still_send
    scheduler.handle(Submit(1, 0, (), (written,)))
    scheduler.handle(Bye(1, ()))
    assert scheduler.free("ingress/0") == len(others) + 1
    assert scheduler.scheduler.ingress.clients == {}


def test_a_slot_that_was_written_comes_back_when_the_process_of_its_client_dies(example: Make) -> None:
    scheduler = example()
    slots = scheduler.granted[1]
    scheduler.handle(Bye(1, tuple(slots)))
    scheduler.decide()
    assert scheduler.free("ingress/0") == 0
    scheduler.handle(ClientGone(1))
    scheduler.decide()
    assert scheduler.free("ingress/0") == len(slots)


def test_a_client_that_says_hello_again_starts_anew(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1)
    scheduler.handle(Hello(1, "client 1"))
    # The answer was for the client's last life; its slots come back.
    assert scheduler.decide() == ["connect client 1", "client 1: Welcome"]
    assert all(pool.free == pool.slots for pool in scheduler.pools)
    scheduler.asks()
    assert scheduler.decide() == ["client 1: a slot"]
    assert [message.number for _, message in scheduler.decided if isinstance(message, Answers)] == [1]


def test_a_client_that_has_lost_messages_is_sent_them_once_more(example: Make) -> None:
    scheduler = example()
    sent = scheduler.scheduler.ingress.clients[1].sent
    scheduler.handle(Again(1, sent - 2))
    scheduler.decide()
    assert [message.number for _, message in scheduler.decided if isinstance(message, Answers)] == [sent - 1, sent]
    assert scheduler.scheduler.counts["repeated_answers"] == 2


def test_a_client_that_lost_what_it_has_confirmed_is_let_go_of(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Submit(1, 2, (), ()))
    scheduler.handle(Again(1, 0))
    scheduler.decide()
    assert scheduler.decided[-1] == (Address.client(1), Gone(-1, LOST))
    # Its process lives, and may be writing the slots that it was granted.
    assert scheduler.free("ingress/0") < 3
    assert scheduler.scheduler.counts["lost_clients"] == 1
    scheduler.handle(Again(1, 0))
    assert scheduler.decide() == ["client 1: Gone"], "it has not heard so"
    assert scheduler.scheduler.counts["lost_clients"] == 1
    scheduler.handle(Bye(1, ()))
    assert scheduler.decide() == ["disconnect client 1"]
    assert scheduler.free("ingress/0") == 3


def test_a_client_that_is_let_go_of_and_has_nothing_is_forgotten_at_once(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2)
    scheduler.decide()
    known = scheduler.scheduler.ingress.clients[2]
    scheduler.handle(Submit(2, known.sent, (), tuple(known.granted)))
    scheduler.decide()
    known.unread.append(Answers(known.sent + 1, (), (), 0))
    scheduler.handle(Again(2, 0))
    scheduler.decide()
    assert scheduler.decided[-2:] == [(Address.client(2), Gone(-1, LOST)), (SHELL, Disconnect(Address.client(2), 1000))]


def test_every_client_is_told_that_the_scheduler_ends(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2)
    scheduler.handle(Stop())
    assert scheduler.decide() == [
        "client 1: Gone", "disconnect client 1", "client 2: Gone", "disconnect client 2",
    ]  # fmt: skip
    assert scheduler.scheduler.stopped
