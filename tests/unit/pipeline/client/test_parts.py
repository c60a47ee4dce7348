"""The parts of an answer, for threads; the rest is not wanted when they are closed or dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.client.bindings import parted_of
from pipeline.client.parts import Parts
from pipeline.client.shared import SharedClient
from pipeline.errors import BadInput, Unavailable
from tests.unit.pipeline.client.loopback import ClientInbox, Pipeline
from tests.unit.pipeline.client.served import Served
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import BAD, make_plan, parts_of, stage_of


@pytest.fixture
def served(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A pipeline that answers in parts."""
    monkeypatch.setattr("tests.unit.pipeline.client.loopback.Hash", stage_of)
    ClientInbox.running = None
    pipeline = Pipeline(run_dir, make_plan("parts", slots=8, credits=4))
    with Served(pipeline) as served:
        yield served
    pipeline.die()


def ask(client: SharedClient, x: bytes) -> Parts:
    return Parts(client, parted_of(client.specs, {"x": np.frombuffer(x, np.uint8)}, {}, None, 0, None))


def x_with(served: Served, wanted: Callable[[int], bool]) -> tuple[bytes, list[bytes]]:
    """An input whose answer has such a number of parts, and these."""
    for number in range(200):
        x = number.to_bytes(2, "big").rjust(16, b"x")
        parts = parts_of(expected_answer(served.pipeline.plan, {"x": x})["z"])
        if wanted(len(parts)):
            return x, parts
    raise AssertionError("no input has so many")


def test_each_part_comes_once_and_in_its_order(shared: SharedClient, served: Served) -> None:
    x, parts = x_with(served, lambda count: count == 3)
    with ask(shared, x) as stream:
        assert iter(stream) is stream
        assert [part["z"].tobytes() for part in stream if "z" in part] == parts
    with pytest.raises(StopIteration):
        next(stream)


def test_threads_share_the_parts_and_each_goes_to_one(shared: SharedClient, served: Served) -> None:
    x, parts = x_with(served, lambda count: count == 3)
    stream = ask(shared, x)
    came: list[bytes] = []

    def read() -> None:
        came.extend(part["z"].tobytes() for part in stream if "z" in part)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(came) == sorted(parts)


def test_the_error_of_the_request_is_raised_once_and_then_it_is_over(shared: SharedClient) -> None:
    stream = ask(shared, bytes([BAD]) + b"same567same567x"[:7] * 2 + b"\0")
    with pytest.raises(BadInput):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_what_is_not_wanted_any_more_is_cancelled(shared: SharedClient, served: Served, how: str) -> None:
    served.paused = True
    stream = ask(shared, b"x" * 16)
    assert shared.io.queue.outstanding == 1
    if how == "closed":
        stream.close()
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)
    del stream
    served.paused = False
    assert shared.wait_until_idle(30)
    served.until(lambda: not served.pipeline.scheduler.requests)


def test_a_thread_that_waits_for_a_part_hears_of_the_end(shared: SharedClient, served: Served) -> None:
    served.paused = True
    stream = ask(shared, b"x" * 16)
    raised: list[BaseException] = []

    def read() -> None:
        try:
            next(stream)
        except Unavailable as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    shared.close()
    thread.join(30)
    served.paused = False
    assert [type(error) for error in raised] == [Unavailable]
