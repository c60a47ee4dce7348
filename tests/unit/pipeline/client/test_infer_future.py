"""Futures of shared clients, over an I/O thread that the test plays."""

from __future__ import annotations

import concurrent.futures
import pickle
import threading
from collections import deque
from typing import Any

import pytest

from pipeline.client.infer_future import InferFuture
from pipeline.client.request import Request
from pipeline.client.unread import Unread
from pipeline.errors import BadInput, Cancelled, ClientMisuse, NotInTime, PipelineError, Unavailable


class Bell:
    rung = 0

    def ring(self) -> None:
        self.rung += 1


class Io:
    """In place of an IOThread."""

    def __init__(self) -> None:
        self.cancelled: list[Request] = []
        self.dropped: deque[Request] = deque()
        self.bell = Bell()
        self.misuse: ClientMisuse | None = None
        self.unread = Unread()

    def refuse_child(self) -> None: ...

    def refuse_waiting(self) -> None:
        if self.misuse is not None:
            raise self.misuse

    def cancel(self, requests: Any) -> None:
        if self.misuse is not None:
            raise self.misuse
        self.cancelled += requests

    def take(self, pending: Any) -> None: ...


def made(count: int = 1, *, is_batch: bool = False) -> tuple[InferFuture, list[Request], Io]:
    io = Io()
    requests = [Request({}, {}) for _ in range(count)]
    return InferFuture(io, io, requests, is_batch), requests, io  # type: ignore[arg-type]


def fail(request: Request, error: PipelineError) -> None:
    owner, request.owner = request.owner, None
    request.fail(error)
    owner.request_done(request)


def test_a_failure_is_raised_by_every_way_to_ask_as_another_object_each_time() -> None:
    future, (request,), _ = made()
    called: list[InferFuture] = []
    future.add_done_callback(called.append)  # type: ignore[arg-type]
    assert not future.done()
    fail(request, BadInput("no face"))
    assert future.done()
    assert called == [future]
    first, second = future.exception(), future.exception()
    assert first is not second
    for ask in (future.result, future.get):
        with pytest.raises(BadInput, match="no face"):
            ask()
    assert future.wait(0)
    assert not future.cancel()
    assert concurrent.futures.wait([future], 60).done == {future}
    assert repr(future) == "<InferFuture of request (waits): failed, BadInput('no face')>"


def test_a_future_that_is_not_done_in_time_says_what_goes_on() -> None:
    future, _, _ = made()
    with pytest.raises(NotInTime, match=r"the request, which waits for a slot, is not answered after 0\.01 s; it goes on"):
        future.get(0.01)
    assert not future.wait(-1)


def test_a_future_says_that_it_cannot_be_pickled() -> None:
    with pytest.raises(ClientMisuse, match="a future cannot be sent to another process"):
        pickle.dumps(made()[0])


def test_a_cancelled_future_is_so_for_concurrent_futures_too_and_what_comes_later_changes_nothing() -> None:
    future, (request,), io = made()
    called: list[InferFuture] = []
    future.add_done_callback(called.append)  # type: ignore[arg-type]
    assert future.cancel()
    assert future.cancel()
    assert (called, io.cancelled) == ([future], [request])
    assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
    assert [*concurrent.futures.as_completed([future], 60)] == [future]
    future.request_done(request)
    for ask in (future.result, future.exception):
        with pytest.raises(Cancelled) as raised:
            ask()
        assert isinstance(raised.value, concurrent.futures.CancelledError)
    assert repr(future).endswith("cancelled>")


def test_a_future_that_is_cancelled_where_no_step_may_be_made_leaves_it_to_the_io_thread() -> None:
    future, (request,), io = made()
    io.misuse = ClientMisuse("in the middle of another call")
    assert future.cancel()
    assert ([*io.dropped], io.bell.rung) == ([request], 1)


def test_a_batch_fails_with_its_first_row_that_does_and_the_rest_is_not_wanted() -> None:
    future, requests, io = made(3, is_batch=True)
    fail(requests[1], BadInput("no face"))
    with pytest.raises(BadInput, match=r"^row 1 of 3: no face$"):
        future.get(60)
    assert io.cancelled == requests
    fail(requests[0], Unavailable("gone"))
    with pytest.raises(BadInput):
        future.get()


def test_threads_that_wait_go_on_although_one_was_interrupted_in_concurrent_futures() -> None:
    future, (request,), _ = made()
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        # As a thread that was interrupted in `concurrent.futures.wait` leaves it.
        with future._condition:
            held.set()
            over.wait(60)

    threads = [threading.Thread(target=hold), threading.Thread(target=lambda: found.append(future.exception(60)))]
    found: list[Any] = []
    for thread in threads:
        thread.start()
    held.wait(60)
    fail(request, Unavailable("gone"))
    threads[1].join(60)
    assert isinstance(found[0], Unavailable)
    assert future._state == "PENDING"
    over.set()
    threads[0].join(60)
    assert concurrent.futures.wait([future], 60).done == {future}
