"""A client that threads share: it comes, is refused, waited for and closed."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from pipeline.client.bindings import many_of
from pipeline.client.shared import InferFuture, SharedClient
from pipeline.errors import ClientMisuse, NotInTime, Unavailable
from tests.unit.pipeline.client.served import Served, x_and_y


def send(client: SharedClient, *numbers: int) -> list[InferFuture]:
    return client.send(many_of(client.specs, [x_and_y(number) for number in numbers], None, 0, "", 0))


def answer_of(future: InferFuture) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in future.get(30).items()}


def io_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("client ")]


def test_requests_are_answered_in_whatever_order_they_are_read(shared: SharedClient, served: Served) -> None:
    futures = send(shared, *range(20))
    for number in reversed(range(20)):
        assert answer_of(futures[number]) == served.expected(number)
    assert shared.interface.name == served.pipeline.plan.name
    assert list(shared.specs) == ["x", "y"]


def test_a_batch_has_one_future_and_its_answer_the_rows(shared: SharedClient, served: Served) -> None:
    requests = many_of(shared.specs, [x_and_y(number) for number in range(3)], None, 0, "", 0)
    result = shared.send_batch(requests).get(30)
    for name, rows in result.items():
        assert [row.tobytes() for row in rows] == [served.expected(number)[name] for number in range(3)]


def test_a_run_that_is_not_there_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        SharedClient.connect(tmp_path)
    assert io_threads() == []


def test_a_client_without_a_name_is_called_as_its_program_was_started(served: Served, run_dir: Path) -> None:
    with SharedClient.connect(run_dir) as client:
        (known,) = client.status()["clients"]
        assert known["name"] == client._name != ""


def test_the_status_does_not_come_from_a_scheduler_that_does_nothing(shared: SharedClient, served: Served) -> None:
    assert shared.status()["pipeline"] == served.pipeline.plan.name
    served.paused = True
    with pytest.raises(NotInTime):
        shared.status(timeout_s=0.05)
    served.paused = False


def test_a_client_that_refuses_finishes_what_it_has(shared: SharedClient, served: Served) -> None:
    served.paused = True
    (future,) = send(shared, 1)
    shared.refuse(Unavailable("unloaded"))
    with pytest.raises(Unavailable, match="unloaded"):
        send(shared, 2)
    # The first reason stays.
    shared.refuse(Unavailable("again"))
    with pytest.raises(Unavailable, match="unloaded"):
        send(shared, 2)
    assert not shared.wait_until_idle(0.02)
    served.paused = False
    assert shared.wait_until_idle(30)
    assert answer_of(future) == served.expected(1)


def test_a_closed_client_fails_what_is_under_way_and_takes_nothing_more(shared: SharedClient, served: Served) -> None:
    served.paused = True
    futures = send(shared, 1, 2)
    shared.close()
    shared.close()
    for future in futures:
        with pytest.raises(Unavailable, match="closed before the request was answered"):
            future.get(30)
    served.paused = False
    for call in (lambda: send(shared, 3), shared.status, shared.reconnect):
        with pytest.raises(ClientMisuse, match="this client is closed; connect again"):
            call()
    assert io_threads() == []
    served.until(lambda: not served.pipeline.scheduler.ingress.clients)


def test_a_client_that_is_dropped_is_closed_once_its_futures_are_done(served: Served, run_dir: Path) -> None:
    client = SharedClient.connect(run_dir)
    served.paused = True
    (future,) = send(client, 1)
    del client
    gc.collect()
    assert io_threads() != []
    served.paused = False
    assert answer_of(future) == served.expected(1)
    served.until(lambda: not served.pipeline.scheduler.ingress.clients)


def test_the_child_of_a_fork_is_refused(shared: SharedClient) -> None:
    shared.io.process += 1
    try:
        for call in (lambda: shared.interface, lambda: shared.refuse(Unavailable("")), shared.ready, shared.reconnect):
            with pytest.raises(ClientMisuse, match="connect in the child"):
                call()
        # A parent's is not closed by its child.
        shared.close()
    finally:
        shared.io.process -= 1
    assert shared.io.closed is None
