"""An observer at a scheduler's place: what it asks, what it takes in, and when it asks again."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.client import observing
from pipeline.client.observing import Observer
from pipeline.errors import Unavailable
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.links import Inbox, connect, listen
from pipeline.wire.messages import Message, Observe, Observed, Stop
from pipeline.wire.run_folder import RunFolder


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = RunFolder("observed")
    yield folder.path
    folder.remove()


@pytest.fixture
def scheduler(folder: Path) -> Iterator[Inbox]:
    inbox = listen(folder, SCHEDULER)
    yield inbox
    inbox.close()


def asked(scheduler: Inbox, observer: Observer) -> Observe:
    while True:
        observer.ask()
        for message in scheduler.receive(50):
            assert isinstance(message, Observe)
            return message


def answer(folder: Path, number: int, *messages: Message) -> None:
    outbox = connect(folder, Address.client(number))
    for message in messages:
        outbox.send(message)
    outbox.close(1000)


def taken(observer: Observer) -> tuple[list[Observed], list[Message]]:
    while True:
        found, others = observer.take(0.05)
        if found or others:
            return found, others


def test_each_answer_is_taken_in_once_and_confirmed_with_the_next_question(folder: Path, scheduler: Inbox) -> None:
    with Observer(folder) as observer:
        first = asked(scheduler, observer)
        assert first.seen == 0
        one, two = Observed(1, (), 0), Observed(2, (), 7)
        answer(folder, first.client, one, one, two)
        found: list[Observed] = []
        while len(found) < 2:
            found += taken(observer)[0]
        assert found == [one, two]
        assert asked(scheduler, observer) == Observe(first.client, 2)


def test_an_answer_that_comes_again_does_not_end_the_wait_for_the_next_one(folder: Path, scheduler: Inbox) -> None:
    with Observer(folder) as observer:
        client = asked(scheduler, observer).client
        one, last = Observed(1, (), 0), Observed(2, (), 0, last=True)
        answer(folder, client, one)
        assert taken(observer) == ([one], [])
        answer(folder, client, one)
        later = threading.Timer(0.2, answer, (folder, client, last))
        later.start()
        assert observer.take(60) == ([last], [])
        later.join()


def test_it_does_not_ask_while_an_answer_may_come_and_again_if_none_does(
    folder: Path, scheduler: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Observer(folder) as observer:
        first = asked(scheduler, observer)
        observer.ask()
        assert scheduler.receive(50) == []
        monkeypatch.setattr(observing, "_ASK_AGAIN_S", 0.0)
        assert asked(scheduler, observer) == first


def test_messages_to_other_addresses_of_the_process_come_too(folder: Path, scheduler: Inbox) -> None:
    with Observer(folder, [Address("access")]) as observer:
        outbox = connect(folder, Address("access"))
        outbox.send(Stop())
        assert taken(observer) == ([], [Stop()])
        outbox.close()


def test_a_refusal_is_an_error_with_the_reason(folder: Path, scheduler: Inbox) -> None:
    with Observer(folder) as observer:
        answer(folder, asked(scheduler, observer).client, Observed(0, (), 0, "4 processes watch already"))
        with pytest.raises(Unavailable, match="cannot be watched: 4 processes watch already"):
            taken(observer)


def test_without_a_run_there_is_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Observer(tmp_path / f"gone-{secrets.randbelow(100)}")
