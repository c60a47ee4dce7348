"""The queue of a client: requests of several rows, against the real scheduler and executions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.client.answering import result_of
from pipeline.client.request import Request
from pipeline.errors import InvalidRequest
from tests.unit.pipeline.client.direct import Direct, x_of
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import ROWS, make_plan


@pytest.fixture
def rows(direct: Direct) -> Direct:
    """A client of a pipeline whose requests may carry `ROWS` rows."""
    direct.die()
    direct.start(make_plan("rows", slots=8, credits=4))
    direct.connect()
    return direct


def several(direct: Direct, *numbers: int, **options: Any) -> Request:
    data = np.stack([np.frombuffer(x_of(number), np.uint8) for number in numbers])
    specs = direct.session.specs
    request = Request(dict.fromkeys(specs, data), specs, owner=numbers, rows=len(numbers), **options)
    direct.queue.put(request, direct.now)
    return request


def answered(direct: Direct, *requests: Request) -> None:
    for _ in range(200):
        if all(request.done for request in requests):
            return
        direct.after(0.1)
        direct.step()
    raise AssertionError(f"not over: {requests}")


def value(request: Request) -> Any:
    assert request.pending is not None
    (array,) = result_of(request.pending).values()
    request.pending.leases = {}
    return array


def right(direct: Direct, *numbers: int) -> list[bytes]:
    answers = [expected_answer(direct.plan, dict.fromkeys(direct.session.specs, x_of(n))) for n in numbers]
    return [next(iter(answer.values())) for answer in answers]


def test_the_answer_has_a_row_for_each_of_the_request_also_for_one(rows: Direct) -> None:
    requests = [several(rows, 1, 2, 3), several(rows, 4), several(rows, 5, 6)]
    answered(rows, *requests)
    for request in requests:
        found = value(request)
        assert found.shape == (len(request.owner), 16)
        assert [row.tobytes() for row in found] == right(rows, *request.owner)


def test_what_waits_for_a_scheduler_that_has_died_is_sent_to_the_next_one_whole(rows: Direct) -> None:
    request = several(rows, 1, 2, 3, retries=1)
    rows.queue.go_on(rows.now)
    rows.send()
    rows.die()
    rows.start()
    rows.connect()
    answered(rows, request)
    assert [row.tobytes() for row in value(request)] == right(rows, 1, 2, 3)


def test_a_version_whose_requests_carry_fewer_rows_refuses_what_waited_and_says_why(rows: Direct) -> None:
    rows.die()
    request = several(rows, *range(ROWS))
    rows.start(make_plan("chain", slots=8, credits=4))
    rows.connect()
    answered(rows, request)
    with pytest.raises(InvalidRequest, match=r"has 3 rows, and .* carry 1 at most, while it waited: send it again"):
        raise request.error() or AssertionError
