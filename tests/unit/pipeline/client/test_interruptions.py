"""An exception at any point of the client, as a signal's handler raises it: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pipeline.client
from pipeline.client import Future
from pipeline.errors import ClientMisuse
from pipeline.wire.messages import Submit
from tests.unit.pipeline.client.loopback import Client, Pipeline, arrived, arrived_without_client
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import make_plan

#: Functions of the client that are being run, the innermost first, and where in each: file, event, instruction.
Place = tuple[tuple[str, str, int], ...]

FOLDER = str(Path(pipeline.client.__file__).parent)


class Cut(BaseException):
    """What the handler raises."""


class Interruption:
    """Raises at the `point`-th point of the client's code at which Python runs the handlers of signals.

    Those are the entry of a function and the return from one that is written in C, as a profiler sees them.
    """

    def __init__(self, point: int, without: tuple[str, ...] = (), known: set[Place] | None = None) -> None:
        self.left = point
        #: Names of functions in which, and below which, it does not raise.
        self.without = without
        #: Places at which it has raised before, and does not count again: a loop comes by each many times.
        self.known = known

    def __enter__(self) -> Interruption:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(FOLDER):
            return
        # Not in callbacks and finalisers, out of which nothing can be raised: Python shows and drops what they raise.
        inner: FrameType | None = frame
        place: list[tuple[str, str, int]] = []
        while inner is not None and inner.f_code.co_filename.startswith(FOLDER):
            if inner.f_code.co_name in ("__del__", "report", *self.without):
                return
            place.append((inner.f_code.co_filename, event, inner.f_lasti))
            inner = inner.f_back
        if self.known is not None:
            if tuple(place) in self.known:
                return
            self.known.add(tuple(place))
        self.left -= 1
        if self.left == 0:
            sys.setprofile(None)
            raise Cut


def interrupted(
    point: int, call: Callable[[], Any], without: tuple[str, ...] = (), known: set[Place] | None = None
) -> tuple[bool, Any]:
    """Whether a call was interrupted; otherwise what it returned."""
    try:
        with Interruption(point, without, known):
            return False, call()
    except Cut:
        return True, None


def ask(client: Client, number: int) -> tuple[Future, dict[str, bytes]]:
    inputs = {"x": bytes([1, number % 256] * 8), "y": bytes([2, number // 256] * 8)}
    return client.submit(timeout_s=10, **inputs), inputs


def read(future: Future, *, release: bool = True) -> dict[str, bytes]:
    result = future.get(10)
    found = {name: array.tobytes() for name, array in result.items()}
    if release:
        result.release()
    return found


@pytest.mark.parametrize("what", [pytest.param("submit", marks=pytest.mark.foreign), "get", "release"])
def test_wherever_a_call_is_interrupted_every_answer_comes_once_and_every_slot_comes_back(
    client: Client, pipeline: Pipeline, what: str
) -> None:
    point = 0
    cut = True
    while cut:
        point += 1
        # One more is under way, whose answer may come with the other's.
        beside, beside_inputs = ask(client, 1000 + point)
        if what == "submit":
            cut, asked = interrupted(point, lambda number=point: ask(client, number))  # type: ignore[misc]
            future, inputs = ask(client, point) if cut else asked
        else:
            future, inputs = ask(client, point)
        if what == "get":
            cut, _ = interrupted(point, lambda future=future: future.get(10))  # type: ignore[misc]
        # The same future, once more.
        assert read(future, release=what != "release") == expected_answer(pipeline.plan, inputs), f"point {point}"
        if what == "release":
            cut, _ = interrupted(point, future.get().release)
        assert read(beside) == expected_answer(pipeline.plan, beside_inputs), f"point {point}"
        del beside, future
    assert point > 10
    assert client.outstanding == 0
    gc.collect()
    arrived(client, pipeline, lambda: sum(pipeline.in_use) <= 1)
    client.close()
    arrived_without_client(pipeline, lambda: not any(pipeline.in_use))


def test_a_wait_for_a_slot_that_is_interrupted_leaves_no_slot_to_a_client_that_is_idle(
    start: Callable[..., Pipeline], run_dir: Path
) -> None:
    pipeline = start(make_plan("early outputs", slots=1, credits=1))
    with Client.connect(run_dir) as client, Client.connect(run_dir) as other:
        point = 1
        cut = True
        while cut:
            held = other.draft(timeout_s=10, x=(16,), y=(16,))

            def wait() -> None:
                client.draft(timeout_s=0.0, x=(16,), y=(16,))

            try:
                cut, _ = interrupted(point, wait)
            except TimeoutError:
                cut = False
            held.discard()
            # The other one is served, though the first makes no further call.
            other.submit(x=bytes(16), y=bytes(16), timeout_s=10).get(10).release()
            point += 1
        assert point > 30
    arrived_without_client(pipeline, lambda: not any(pipeline.in_use))


def test_what_is_lost_between_the_socket_and_the_client_is_sent_again(
    client: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    future, inputs = ask(client, 1)
    inbox = client._exchange.access.inbox
    receive = inbox.receive

    def lose(timeout_ms: int = 0) -> Any:
        if any(type(message).__name__ == "Answers" and message.answers for message in receive(timeout_ms)):
            raise Cut
        return []

    monkeypatch.setattr(inbox, "receive", lose)
    with pytest.raises(Cut):
        future.get(10)
    monkeypatch.setattr(inbox, "receive", receive)
    assert read(future) == expected_answer(pipeline.plan, inputs)
    assert pipeline.scheduler.counts["repeated_answers"] >= 1


def test_a_request_that_was_sent_twice_is_computed_once(client: Client, pipeline: Pipeline) -> None:
    scheduler = client._exchange.there._scheduler
    send = scheduler.send

    def cut_after(message: Any) -> bool:
        sent = send(message)
        if isinstance(message, Submit) and message.submissions:
            scheduler.send = send  # type: ignore[method-assign]
            raise Cut
        return sent

    scheduler.send = cut_after  # type: ignore[method-assign]
    with pytest.raises(Cut):
        ask(client, 1)
    client.flush()
    arrived(client, pipeline, lambda: pipeline.scheduler.counts["repeated_submissions"] == 1)
    assert pipeline.scheduler.counts["requests"] == 1


def test_a_close_that_is_interrupted_is_ended_by_the_next_one_or_by_dropping_the_client(
    pipeline: Pipeline, run_dir: Path
) -> None:
    point, cut = 0, True
    while cut:
        point += 1
        client = Client.connect(run_dir)
        draft = client.draft(timeout_s=10, x=(16,), y=(16,))
        future, _ = ask(client, point)
        future.wait(10)
        cut, _ = interrupted(point, client.close)
        if point % 2:
            client.close()
            with pytest.raises(ValueError, match="read-only"):
                draft.inputs["x"][...] = 1
        del client, draft, future
        arrived_without_client(pipeline, lambda: not pipeline.scheduler.ingress.clients and not any(pipeline.in_use))
        assert list((run_dir / "clients").iterdir()) == [], f"point {point}"
    assert point > 20


def test_a_client_is_refused_to_a_handler_in_the_middle_of_a_call_and_goes_on(client: Client, pipeline: Pipeline) -> None:
    inbox = client._exchange.access.inbox
    receive = inbox.receive
    refused: list[str] = []

    def handler() -> None:
        for call in (lambda: ask(client, 2), client.pump, client.close):
            try:
                call()
            except ClientMisuse as error:
                refused.append(str(error))

    def interrupted_receive(timeout_ms: int = 0) -> Any:
        messages = receive(timeout_ms)
        handler()
        return messages

    future, inputs = ask(client, 1)
    inbox.receive = interrupted_receive  # type: ignore[method-assign]
    assert read(future) == expected_answer(pipeline.plan, inputs)
    inbox.receive = receive  # type: ignore[method-assign]
    assert len(refused) >= 3
    assert all("by a signal's handler" in text for text in refused)
    future, inputs = ask(client, 3)
    assert read(future) == expected_answer(pipeline.plan, inputs)
