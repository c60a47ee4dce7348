"""The inside of a client that threads share: what it sends, whom it wakes, and what it leaves when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pipeline.client.bindings import many_of
from pipeline.client.copies import RETRIES, WAITING
from pipeline.client.io_thread import IOThread
from pipeline.client.request import Request
from pipeline.client.shared import InferFuture, SharedClient
from pipeline.errors import ClientMisuse, DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from tests.unit.pipeline.client.served import Served, x_and_y
from tests.unit.pipeline.client.test_shared import answer_of, send

_SLOTS = 8


def requests_of(
    client: SharedClient, numbers: range, deadline_ms: float | None = None, retries: int = 0
) -> list[Request]:
    return many_of(client.specs, [x_and_y(number) for number in numbers], deadline_ms, 0, "", retries)


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException | object]]:
    came: list[BaseException | object] = []

    def run() -> None:
        try:
            came.append(call())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


@pytest.fixture
def full(shared: SharedClient, served: Served) -> list[InferFuture]:
    """The scheduler does nothing, and as many requests wait as may."""
    served.paused = True
    futures = shared.send(requests_of(shared, range(4)))
    assert len(shared.io.queue) == shared.io.queue.pending == 4
    return futures


def test_beyond_its_bound_a_call_that_does_not_wait_sends_nothing(
    shared: SharedClient, served: Served, full: list[InferFuture]
) -> None:
    with pytest.raises(Overloaded, match=r"4 requests of this client wait for a slot, and 4 may"):
        shared.send(requests_of(shared, range(4, 6)), block=False)
    served.paused = False
    assert [answer_of(future) for future in full] == [served.expected(number) for number in range(4)]
    served.until(lambda: served.pipeline.scheduler.counts["requests"] == 4)


def test_a_call_that_waits_for_room_goes_on_when_there_is_room(
    shared: SharedClient, served: Served, full: list[InferFuture]
) -> None:
    thread, came = in_thread(lambda: shared.send(requests_of(shared, range(4, 12))))
    thread.join(0.05)
    assert thread.is_alive()
    served.paused = False
    thread.join(30)
    (futures,) = came
    assert isinstance(futures, list)
    assert [answer_of(future) for future in futures] == [served.expected(number) for number in range(4, 12)]


def test_a_call_waits_for_room_no_longer_than_its_deadline(
    shared: SharedClient, served: Served, full: list[InferFuture]
) -> None:
    (future,) = shared.send(requests_of(shared, range(4, 5), deadline_ms=30))
    with pytest.raises(DeadlineExceeded):
        future.get(30)
    served.paused = False


def test_the_end_of_the_client_ends_the_wait_for_room(
    shared: SharedClient, served: Served, full: list[InferFuture]
) -> None:
    thread, came = in_thread(lambda: shared.send(requests_of(shared, range(4, 5))))
    thread.join(0.05)
    shared.close()
    thread.join(30)
    served.paused = False
    (error,) = came
    assert isinstance(error, ClientMisuse)


def test_what_cannot_be_written_at_once_is_copied_and_counted_and_what_has_retries_only_once(
    shared: SharedClient, served: Served
) -> None:
    served.paused = True
    shared.send(requests_of(shared, range(2)))
    assert shared.io.session.copies.by_reason() == {}, "bytes cannot change, so they are not copied"
    arrays = requests_of(shared, range(2, 4), retries=1)
    for request in arrays:
        request.inputs = {name: array.copy() for name, array in request.inputs.items()}
    shared.send(arrays[:1])
    assert shared.io.session.copies.by_reason() == {RETRIES: 32}
    arrays[1].retries = 0
    shared.send(arrays[1:])
    assert shared.io.session.copies.by_reason() == {RETRIES: 32, WAITING: 32}
    served.paused = False


def test_if_one_request_does_not_fit_none_is_sent_and_no_slot_is_kept(shared: SharedClient, served: Served) -> None:
    (answered,) = send(shared, 1)  # now there is a slot in hand
    answer_of(answered)
    good, bad = requests_of(shared, range(2))
    bad.inputs = {"x": good.inputs["x"]}
    with pytest.raises(InvalidRequest):
        shared.io.put([good, bad], block=True)
    assert shared.io._writers == set()
    assert shared.wait_until_idle(30)
    served.until(lambda: served.pipeline.scheduler.counts["requests"] == 1)
    shared.close()
    served.until_free()


def test_a_callback_may_send_and_may_not_wait(shared: SharedClient, served: Served) -> None:
    second: list[InferFuture] = []
    raised: list[BaseException] = []
    called = threading.Event()

    def call(future: object) -> None:
        # Without room in the queue either: its thread is the one that makes room.
        second.extend(shared.send(requests_of(shared, range(2, 12))))
        try:
            second[0].get(30)
        except ClientMisuse as error:
            raised.append(error)
        called.set()

    served.paused = True
    (first,) = send(shared, 1)
    first.add_done_callback(call)
    served.paused = False
    assert called.wait(30)
    assert [type(error) for error in raised] == [ClientMisuse]
    assert [answer_of(future) for future in second] == [served.expected(number) for number in range(2, 12)]


def test_a_call_that_was_interrupted_is_put_in_order_by_the_next(shared: SharedClient, served: Served) -> None:
    (first,) = send(shared, 1)
    answer_of(first)
    reserve = shared.io.queue.reserve

    def interrupted(request: Request) -> bool:
        reserve(request)
        raise KeyboardInterrupt

    shared.io.queue.reserve = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        send(shared, 2)
    del shared.io.queue.reserve
    assert shared.io._writers == set()
    (third,) = send(shared, 3)
    assert answer_of(third) == served.expected(3)
    assert shared.wait_until_idle(30)
    shared.close()
    served.until_free()


def test_a_fault_of_its_own_is_told_to_all_that_wait(
    shared: SharedClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is raised for people to see, and what shows it keeps it.
    monkeypatch.setattr(threading, "excepthook", lambda shown: None)
    served.paused = True
    (future,) = send(shared, 1)
    thread, came = in_thread(lambda: shared.wait_until_idle(30))
    while not shared.io._waits:
        time.sleep(0.001)

    def broken(now: int) -> list[Request]:
        raise ZeroDivisionError("a fault")

    shared.io.driver.step = broken  # type: ignore[method-assign]
    shared.io.bell.ring()
    with pytest.raises(Unavailable, match=r"this client has failed: ZeroDivisionError\('a fault'\); connect again"):
        future.get(30)
    thread.join(30)
    assert came == [True]
    del shared.io.driver.step
    with pytest.raises(Unavailable, match="has failed"):
        send(shared, 2)
    served.paused = False


def test_the_end_waits_for_a_call_that_writes_and_then_tells_it(shared: SharedClient, served: Served) -> None:
    (first,) = send(shared, 1)
    answer_of(first)
    call = object()
    shared.io._writers.add(call)
    thread, _ = in_thread(shared.close)
    thread.join(0.05)
    assert not shared.io._left
    shared.io._writers.discard(call)
    thread.join(30)
    assert shared.io._left


def test_an_idle_client_sleeps_until_its_bell_rings(shared: SharedClient, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.client.io_thread._LINGER_NS", 0)
    (first,) = send(shared, 1)
    answer_of(first)
    io: IOThread = shared.io
    end = time.monotonic() + 30
    while io._sleeps_until < 1 << 62:
        assert time.monotonic() < end
        time.sleep(0.002)
    (second,) = send(shared, 2)
    assert answer_of(second) == served.expected(2)
