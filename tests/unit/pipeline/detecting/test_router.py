"""The ROUTER: each answer goes to the connection that has asked, and an answer to none is told."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.detecting.router import Asked, Router
from pipeline.errors import StartError
from tests.finding import Asker


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    made = Router(f"ipc://{tmp_path}/detector")
    yield made
    made.close()


def asked(router: Router, count: int) -> list[Asked]:
    """So many messages, once they are here."""
    found: list[Asked] = []
    while len(found) < count:
        found += router.receive()
        if len(found) < count:
            select.select([router.descriptor], [], [], 60)
    return found


def test_each_answer_goes_to_the_one_that_has_asked(router: Router) -> None:
    askers = [Asker(router.endpoint) for _ in range(5)]
    for number, asker in enumerate(askers):
        asker.socket.send_multipart([b"%d" % number, bytes(1000)])
    for question in reversed(asked(router, 5)):
        assert len(question.parts[1]) == 1000
        assert router.send(question.envelope, [b"re:", bytes(question.parts[0])])
    for number, asker in enumerate(askers):
        assert asker.socket.recv_multipart() == [b"re:", b"%d" % number]
        asker.close()


def test_an_answer_to_one_that_is_gone_is_told(router: Router) -> None:
    asker = Asker(router.endpoint)
    asker.socket.send(b"question")
    (question,) = asked(router, 1)
    asker.close()
    # Until libzmq has seen that, it goes into the connection.
    while router.send(question.envelope, [b"answer"]):
        pass
    assert list(router.receive()) == []


def test_a_socket_that_sends_no_delimiter_is_answered_without_one(router: Router) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(router.endpoint)
    dealer.send_multipart([b"header", b"tensor"])
    (question,) = asked(router, 1)
    assert [bytes(part) for part in question.parts] == [b"header", b"tensor"]
    assert router.send(question.envelope, [b"answer"])
    assert dealer.recv_multipart() == [b"answer"]
    dealer.send(b"")
    assert [question.parts for question in asked(router, 1)] == [()]
    dealer.close()
    context.term()


def test_an_address_that_is_none_or_is_taken_is_refused(router: Router) -> None:
    for endpoint in ("5555", "tcp://nowhere", router.endpoint + "/below"):
        with pytest.raises(StartError, match="cannot listen on"):
            Router(endpoint)
    first = Router("tcp://127.0.0.1:*")
    with pytest.raises(StartError, match="Address already in use"):
        Router(first.endpoint)
    first.close()
