"""Which orders are common, and how they are put side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.scheduler.lean import is_common
from pipeline.wire.columns import Columns, integers, longs
from pipeline.wire.messages import Order, Orders, Submit
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def sent(scheduler: Example) -> tuple[list[Order], list[Columns]]:
    """What the workers are sent of the next decision."""
    scheduler.decide()
    messages = [message for _, message in scheduler.decided if isinstance(message, Orders)]
    return [o for message in messages for o in message.orders], [c for message in messages for c in message.columns]


def test_common_orders_of_one_decision_are_columns_of_one_way(example: Make) -> None:
    scheduler = example(slots=6, credits=6)
    scheduler.submit(1)
    scheduler.submit(2)
    orders, (columns,) = sent(scheduler)
    assert orders == []
    assert longs(columns.requests) == [1, 2]
    assert [(hop.stage, hop.worker, integers(hop.slots)) for hop in columns.hops] == [
        (0, 0, [0, 1]), (1, 1, [0, 1]), (2, 2, [0, 1])
    ]  # fmt: skip
    (tensor,) = columns.tensors
    assert (tensor.tensor, tensor.segment, integers(tensor.slots)) == (0, scheduler.ingress, [0, 1])
    assert columns.labels == ("00001-1", "00001-2")


def test_deadlines_and_origins_are_columns_if_a_row_has_one(example: Make) -> None:
    scheduler = example(slots=6, credits=6)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    scheduler.submit(1)
    assert [(c.deadlines, c.started, c.traceparents) for c in sent(scheduler)[1]] == [(b"", b"", ())]
    late = scheduler.now + 10**9
    scheduler.submit(2, deadline=late)
    third = scheduler.submission(3, scheduler.granted[1].pop(0))
    scheduler.handle(Submit(1, 0, (replace(third, started=7, traceparent=parent),), ()))
    orders, (columns,) = sent(scheduler)
    assert orders == []
    assert (longs(columns.deadlines), longs(columns.started)) == ([late, 0], [0, 7])
    assert columns.traceparents == ("", parent)


def test_a_deadline_that_no_column_holds_is_ordered_as_it_is(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    request = scheduler.scheduler.requests[1]
    request.deadline = -1
    (order,), columns = sent(scheduler)
    assert (order.deadline, columns) == (-1, [])


def test_a_suspect_is_ordered_alone_and_in_columns_again_once_it_is_acquitted(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    assert len(sent(scheduler)[1]) == 1
    scheduler.dies(0, 1)
    scheduler.ready(7, 0)
    (order,), columns = sent(scheduler)
    assert (order.attempt, bool(order.group), columns) == (1, True, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [("deadline", -1), ("deaths", 1), ("group", 1), ("skipped", 1), ("plain", False)],
)
def test_whatever_is_rare_about_a_request_makes_its_orders_no_common_ones(example: Make, field: str, value: Any) -> None:
    scheduler = example()
    scheduler.submit(1)
    request = scheduler.scheduler.requests[1]
    assert is_common(request)
    setattr(request, field, value)
    assert not is_common(request)


@pytest.mark.parametrize("graph", ["fan out", "sizes", "either or"])
def test_stages_that_fan_out_are_asked_or_have_free_shapes_have_no_common_orders(example: Make, graph: str) -> None:
    scheduler = example(graph)
    scheduler.submit(1)
    orders, columns = sent(scheduler)
    assert (len(orders), columns) == (1, [])


def test_its_story_says_where_a_common_order_went(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    lines = scheduler.scheduler.story("00001-1")
    assert lines is not None
    assert "ordered: a from worker 0, then b from worker 1, then c from worker 2" in lines[1]
