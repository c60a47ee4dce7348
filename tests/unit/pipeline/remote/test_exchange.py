"""The shell around a session, over a link that a test drives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.client.copies import Copies
from pipeline.errors import ClientMisuse, Overloaded, Unavailable
from pipeline.kserve.values import InferRequest, InferResponse
from pipeline.remote.exchange import Exchange, Job
from pipeline.remote.failures import LOST, REFUSED, Failure
from pipeline.remote.link import Done, Link, Part, Payload, Sent
from pipeline.remote.session import Session

ANSWER = InferResponse("m", "1", ())


class Told(Payload):
    """Notes how it ends."""

    def __init__(self) -> None:
        super().__init__(InferRequest("m", "", ()), b"")
        self.ends: list[str] = []

    def release(self) -> None:
        self.ends.append("release")

    def abandon(self) -> None:
        self.ends.append("abandon")


class Wire(Link):
    """Keeps what is sent, for the test to answer."""

    def __init__(self) -> None:
        self.sent: list[Done] = []
        self.cancelled = 0
        self.closed = False

    def encode(self, request: InferRequest, room: Mapping[str, int], copies: Copies) -> Payload:
        raise NotImplementedError

    def send(self, payload: Payload, limit_s: float | None, done: Done) -> Sent:
        self.sent.append(done)
        return self

    def stream(self, payload: Payload, limit_s: float | None, part: Part, done: Done) -> Sent:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled += 1

    def ask(self, question: str, limit_s: float, **fields: Any) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        self.closed = True

    def why(self) -> str:
        return ""


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def exchange(wire: Wire) -> Iterator[Exchange]:
    exchange = Exchange(wire, Session(30.0, 30.0), 2)
    yield exchange
    exchange.close(ClientMisuse("stopped"))
    assert wire.closed


def job(over: list[Any], retries: int = 0, deadline_s: float = 0) -> Job:
    deadline = time.monotonic_ns() + round(deadline_s * 1e9) if deadline_s else 0
    return Job(Told(), deadline, retries, lambda response, error: over.append(error or response))


def until(over: list[Any], count: int = 1) -> None:
    end = time.monotonic() + 30
    while len(over) < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_an_answer_ends_it_once_and_its_payload_is_free(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    one = job(over)
    exchange.put([one])
    wire.sent[0](ANSWER)
    wire.sent[0](ANSWER)
    assert over == [ANSWER]
    assert one.payload.ends == ["release"]  # type: ignore[attr-defined]
    assert exchange.outstanding == 0


def test_what_comes_of_an_earlier_attempt_is_dropped_and_then_its_payload_is_not_free(
    exchange: Exchange, wire: Wire
) -> None:
    over: list[Any] = []
    one = job(over, retries=1)
    exchange.put([one])
    wire.sent[0](Failure(LOST, "gone"))
    until(wire.sent, 2)
    wire.sent[0](ANSWER)
    assert over == []
    wire.sent[1](ANSWER)
    assert over == [ANSWER]
    assert one.payload.ends == ["abandon"]  # type: ignore[attr-defined]


def test_time_passes_by_itself(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    exchange.put([job(over, deadline_s=0.05)])
    until(over)
    assert type(over[0]).__name__ == "DeadlineExceeded"
    assert wire.cancelled == 1


def test_what_was_refused_is_sent_again_by_itself(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    exchange.put([job(over)])
    wire.sent[0](Failure(REFUSED, "refused"))
    until(wire.sent, 2)
    assert over == []


def test_beyond_what_may_be_under_way_a_caller_waits_or_is_told(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    exchange.put([job(over), job(over)])
    with pytest.raises(Overloaded, match="at most 2"):
        exchange.put([job(over)], block=False)
    waiting = threading.Thread(target=exchange.put, args=([job(over)],))
    waiting.start()
    wire.sent[0](ANSWER)
    waiting.join(30)
    assert len(wire.sent) == 3


def test_a_callback_may_send_and_may_not_wait(exchange: Exchange, wire: Wire) -> None:
    found: list[Any] = []

    def over(response: Any, error: Any) -> None:
        exchange.put([job(found)])
        with pytest.raises(ClientMisuse, match="done-callback"):
            exchange.refuse_waiting()
        found.append("called")

    exchange.put([Job(Told(), 0, 0, over), job(found)])
    wire.sent[0](ANSWER)
    assert found == ["called"]
    exchange.refuse_waiting()


def test_what_a_request_gives_back_is_there_before_its_caller_hears_of_the_answer(exchange: Exchange, wire: Wire) -> None:
    # Otherwise the next request of a caller that asks one by one would find it taken now and then.
    payload = Told()
    found: list[Any] = []
    exchange.put([Job(payload, 0, 0, lambda response, error: found.append(list(payload.ends)))])
    wire.sent[0](ANSWER)
    assert found == [["release"]]


def test_cancelling_breaks_off_what_was_sent(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    one = job(over)
    exchange.put([one])
    exchange.cancel([one])
    exchange.cancel([one])
    wire.sent[0](ANSWER)
    assert (wire.cancelled, over, one.payload.ends) == (1, [], ["abandon"])  # type: ignore[attr-defined]


def test_closing_fails_what_is_under_way_and_later_calls(exchange: Exchange, wire: Wire) -> None:
    over: list[Any] = []
    exchange.put([job(over)])
    exchange.close(ClientMisuse("stopped"))
    assert type(over[0]) is Unavailable
    with pytest.raises(ClientMisuse, match="stopped"):
        exchange.put([job(over)])
