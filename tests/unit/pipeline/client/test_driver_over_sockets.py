"""A driver over a real scheduler and real sockets."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.client.access import Access
from pipeline.client.answering import result_of
from pipeline.client.driver import Driver
from pipeline.client.queue import Queue
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.errors import Unavailable
from pipeline.wire.address import Address
from pipeline.wire.links import Inbox
from tests.unit.pipeline.client.loopback import ClientInbox, Pipeline
from tests.unit.pipeline.client.talk import SECOND
from tests.unit.pipeline.scheduler.evaluation import expected_answer

X = bytes(range(1, 17))
Y = bytes(range(101, 117))


class Shell:
    """The smallest shell: it waits by `select`, in the test's own thread."""

    def __init__(self, run_dir: Path) -> None:
        self.session = Session("a client")
        self.queue = Queue(self.session, 100)
        self.watched: set[int] = set()

        def listen(folder: Path, address: Address) -> Inbox:
            return ClientInbox(folder, address)

        self.driver = Driver(Access(run_dir, listen), self.session, self.queue, 5.0, self.watched.discard)

    def put(self, x: bytes = X, y: bytes = Y, **options: Any) -> Request:
        inputs = {"x": np.frombuffer(x, np.uint8), "y": np.frombuffer(y, np.uint8)}
        request = Request(inputs, self.specs, **options)
        self.queue.put(request, time.monotonic_ns())
        return request

    @property
    def specs(self) -> Any:
        return getattr(self.session, "specs", {})

    def until(self, condition: Callable[[], object]) -> list[Request]:
        finished: list[Request] = []
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            finished += self.driver.step(time.monotonic_ns())
            if (descriptor := self.driver.descriptor) is not None:
                self.watched.add(descriptor)
            next_at = self.driver.next_at
            wait = 0.002 if next_at is None else (next_at - time.monotonic_ns()) / 1e9
            select.select(list(self.watched), [], [], min(max(0.0, wait), 0.002))
        return finished


@pytest.fixture
def shell(pipeline: Pipeline, run_dir: Path) -> Any:
    shell = Shell(run_dir)
    yield shell
    shell.driver.leave(time.monotonic_ns())
    assert shell.watched == set()
    # What keeps the connection is gone with it.
    del shell.session, shell.queue, shell.driver


def answer_of(request: Request) -> dict[str, bytes]:
    assert request.pending is not None
    assert request.error() is None
    result = result_of(request.pending, 1000)
    request.pending.leases = {}
    return {name: array.tobytes() for name, array in result.items()}


def test_more_requests_than_slots_are_answered_in_their_order(shell: Shell, pipeline: Pipeline) -> None:
    opening = shell.driver.open(time.monotonic_ns() + 10 * SECOND, patient=False)
    shell.until(lambda: opening.done)
    requests = [shell.put(x=bytes([1 + number] * 16)) for number in range(30)]
    shell.until(lambda: all(request.pending for request in requests[:3]))
    tags = [request.pending.tag for request in requests if request.pending]
    assert tags == sorted(tags)
    answers = {}

    def read() -> bool:
        for number, request in enumerate(requests):
            if number not in answers and request.done:
                answers[number] = answer_of(request)
        return len(answers) == 30

    shell.until(read)
    for number, answer in answers.items():
        assert answer == expected_answer(pipeline.plan, {"x": bytes([1 + number] * 16), "y": Y})


def test_requests_that_were_put_before_there_was_a_connection_are_sent_with_it(
    shell: Shell, pipeline: Pipeline
) -> None:
    request = shell.put()
    shell.until(lambda: request.done)
    assert answer_of(request) == expected_answer(pipeline.plan, {"x": X, "y": Y})


@pytest.mark.parametrize("retries", [0, 1])
def test_a_request_with_a_retry_survives_its_scheduler_and_others_fail(
    shell: Shell, pipeline: Pipeline, start: Callable[..., Pipeline], retries: int
) -> None:
    request = shell.put(retries=retries)
    shell.until(lambda: request.pending)
    pipeline.held = True
    shell.until(lambda: len(pipeline.scheduler.requests) == 1)
    pipeline.die()
    ClientInbox.running = None
    shell.until(lambda: not shell.driver.connected)
    second = start(epoch=1)
    assert shell.until(lambda: request.done) == [request] * retries
    if retries:
        assert answer_of(request) == expected_answer(second.plan, {"x": X, "y": Y})
    else:
        assert isinstance(request.error(), Unavailable)


def test_the_next_request_after_a_death_in_idleness_goes_through(
    shell: Shell, pipeline: Pipeline, start: Callable[..., Pipeline]
) -> None:
    request = shell.put()
    shell.until(lambda: request.done)
    answer_of(request)
    pipeline.die()
    ClientInbox.running = None
    request = shell.put()
    shell.until(lambda: not shell.driver.connected)
    second = start(epoch=1)
    shell.until(lambda: request.done)
    assert answer_of(request) == expected_answer(second.plan, {"x": X, "y": Y})


def test_what_is_given_back_within_a_step_goes_with_its_messages(shell: Shell, pipeline: Pipeline) -> None:
    shell.driver.open(time.monotonic_ns() + 20 * SECOND, patient=True)
    shell.until(lambda: shell.driver.connected)
    requests = [shell.put() for _ in range(3)]
    shell.until(lambda: all(request.done for request in requests))
    there, go_on = shell.driver.there, shell.queue.go_on
    settled: list[int] = []
    settle = there.settle

    def note() -> None:
        settled.append(len(there._epoch.dropped))
        settle()

    def drop(*args: Any) -> list[Request]:
        # One at a time, while slots are short: each of them would be told of at once.
        there.idle = True
        while requests:
            requests.pop().pending.give_back()  # type: ignore[union-attr]
        return go_on(*args)

    there.settle = note  # type: ignore[method-assign]
    shell.queue.go_on = drop  # type: ignore[method-assign]
    shell.driver.step(time.monotonic_ns())
    assert (there.dropped, there.about_to_send) == (False, False)
    assert set(settled) <= {0}, "a message for one slot"
    del shell.queue.go_on, there.settle
