"""A runner: each of its calls, over a client that threads share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import ClientMisuse, DeadlineExceeded, InvalidRequest, Overloaded
from tests.unit.pipeline.client.served import Served, x_and_y
from tests.unit.pipeline.client.test_shared import answer_of


@pytest.fixture
def runner(shared: SharedClient) -> InferRunner:
    return InferRunner(shared)


def arrays(number: int) -> dict[str, Any]:
    return {name: np.frombuffer(data, np.uint8) for name, data in x_and_y(number).items()}


def test_inputs_come_by_keyword_in_a_mapping_or_in_both(runner: InferRunner, served: Served) -> None:
    given = arrays(1)
    for future in (
        runner.infer(**given),
        runner.infer(given),
        runner.infer({"x": given["x"]}, y=given["y"]),
        runner.infer(x_and_y(1)),
    ):
        assert answer_of(future) == served.expected(1)


def test_arrays_with_one_dimension_more_are_a_batch(runner: InferRunner, served: Served) -> None:
    rows = {name: np.stack([arrays(number)[name] for number in range(3)]) for name in ("x", "y")}
    result = runner.infer(rows).get(30)
    for name, array in result.items():
        assert [row.tobytes() for row in array] == [served.expected(number)[name] for number in range(3)]


def test_many_requests_have_a_future_each_in_their_order(runner: InferRunner, served: Served) -> None:
    futures = runner.infer_many([arrays(number) for number in range(12)])
    assert [answer_of(future) for future in futures] == [served.expected(number) for number in range(12)]
    with pytest.raises(InvalidRequest):
        runner.infer_many([arrays(1), {"x": arrays(1)["x"]}])


def test_an_answer_that_comes_whole_is_the_only_part(runner: InferRunner, served: Served) -> None:
    for stream in (runner.stream(**arrays(4)), runner.stream(arrays(4))):
        (part,) = stream
        assert {name: array.tobytes() for name, array in part.items()} == served.expected(4)


def test_a_loan_is_of_the_shapes_that_are_given(runner: InferRunner, served: Served) -> None:
    with runner.loan({"x": (16,)}, y=(16,)) as request:
        for name, array in arrays(5).items():
            request[name][...] = array
        future = request.infer()
    assert answer_of(future) == served.expected(5)
    with pytest.raises(InvalidRequest):
        runner.loan(x=(17,), y=(16,))


def test_the_options_of_a_call_reach_its_request(runner: InferRunner, served: Served) -> None:
    served.paused = True
    late = runner.infer(**arrays(1), deadline_ms=1)
    with pytest.raises(InvalidRequest, match="priority"):
        runner.infer(**arrays(1), priority=10)
    waiting = [runner.infer(**arrays(number), name=f"picture {number}", retries=1) for number in range(3)]
    assert [request.name for future in waiting for request in future._requests] == [f"picture {n}" for n in range(3)]
    with pytest.raises(Overloaded):
        runner.infer_many([arrays(number) for number in range(8)], block=False)
    served.paused = False
    with pytest.raises(DeadlineExceeded):
        late.get(30)
    assert [answer_of(future) for future in waiting] == [served.expected(number) for number in range(3)]


def test_a_runner_of_a_closed_client_is_refused(runner: InferRunner, shared: SharedClient) -> None:
    runner.ready()
    shared.close()
    for call in (
        lambda: runner.infer(**arrays(1)),
        lambda: runner.infer_many([arrays(1)]),
        lambda: runner.stream(**arrays(1)),
        lambda: runner.loan(x=(16,), y=(16,)).__enter__(),
    ):
        with pytest.raises(ClientMisuse, match="connect again"):
            call()
