"""Columns in a worker's batcher: they wait whole, and close as their orders would; whatever is rare takes them apart."""

from __future__ import annotations

import pytest

from pipeline.graph.compiled import CompiledPlan
from pipeline.wire.messages import Order
from pipeline.worker.batcher import Batcher, Closed
from pipeline.worker.unpacking import orders_of
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.wire.test_columns import columns, u64

STAGES = CompiledPlan.of(make_plan("chain")).stages
MS = 1_000_000


def batcher(max_size: int = 4, delay_ms: int = 0, credits: int = 8) -> Batcher:
    made = Batcher(max_size, delay_ms * MS, credits, stages=STAGES)
    made.lean = True
    return made


def order(request: int) -> Order:
    return orders_of(columns(request), STAGES)[0]


def whole(closed: Closed | None) -> list[int] | None:
    """The requests of a batch of columns; None if it is one of single rows."""
    if closed is None or not closed.columns:
        return None
    return [each.request for _, part in closed.columns for each in orders_of(part, STAGES)]


def rows(closed: Closed | None) -> list[int]:
    assert closed is not None
    return [row.order.request for row in closed.rows]


def test_columns_that_fit_into_a_batch_close_whole() -> None:
    waiting = batcher()
    waiting.add_columns(columns(3, 7), 10)
    waiting.add_columns(columns(1), 11)
    assert len(waiting) == 3
    closed = waiting.take(12)
    assert (whole(closed), closed and closed.reason) == ([3, 7, 1], "drained")
    assert (len(waiting), waiting.take(12), waiting.wake_at()) == (0, None, None)


@pytest.mark.parametrize(
    ("count", "delay_ms", "credits", "draining", "at", "reason"),
    [
        (4, 5, 8, False, 0, "full"),
        (4, 0, 8, False, 0, "full"),
        (2, 5, 8, False, 0, None),
        (2, 5, 8, False, 5 * MS, "delay"),
        (2, 5, 2, False, 0, "slots"),
        (2, 5, 8, True, 0, "drained"),
        (2, 0, 8, False, 0, "drained"),
    ],
)
def test_columns_close_when_and_why_their_orders_would(
    count: int, delay_ms: int, credits: int, draining: bool, at: int, reason: str | None
) -> None:
    lean, general = batcher(4, delay_ms, credits), batcher(4, delay_ms, credits)
    lean.draining = general.draining = draining
    lean.add_columns(columns(*range(1, count + 1)), 0)
    for request in range(1, count + 1):
        general.add(order(request), 0)
    assert lean.wake_at() == general.wake_at()
    closed = [each.take(at) for each in (lean, general)]
    assert [each and each.reason for each in closed] == [reason, reason]
    assert reason is None or whole(closed[0]) == rows(closed[1])


def test_columns_close_when_a_row_would_be_late_if_they_waited_on_as_their_orders_would() -> None:
    lean, general = batcher(4, 50), batcher(4, 50)
    for count, deadline in ((1, 0), (2, 40), (3, 20)):
        part = columns(*range(10 * count, 11 * count), deadlines=u64(*[deadline * MS] * count))
        lean.add_columns(part, 0)
        for each in orders_of(part, STAGES):
            general.add(each, 0)
    # Six rows are more than a batch has; of those that are left, one is as urgent as before.
    assert (rows(general.take(0)), whole(lean.take(0))) == ([10, 20, 21, 30], [10, 20, 21, 30])
    assert lean.wake_at() == general.wake_at() == 10 * MS
    assert lean.take(10 * MS - 1) is None
    closed = [each.take(10 * MS) for each in (lean, general)]
    assert [each and each.reason for each in closed] == ["deadline", "deadline"]
    assert whole(closed[0]) == rows(closed[1]) == [31, 32]
    lean.add_columns(columns(7), 0)
    assert lean.wake_at() == 50 * MS


def test_more_rows_than_fit_into_a_batch_are_cut() -> None:
    waiting = batcher()
    waiting.add_columns(columns(1, 2, 3), 0)
    waiting.add_columns(columns(4, 5), 0)
    assert (whole(waiting.take(0)), len(waiting), whole(waiting.take(0))) == ([1, 2, 3, 4], 1, [5])


def test_more_rows_than_fit_into_a_batch_that_go_different_ways_are_single_orders() -> None:
    waiting = batcher()
    waiting.add_columns(columns(1, 2, 3), 0)
    waiting.add_columns(columns(4, 5, worker=6), 0)
    assert (rows(waiting.take(0)), rows(waiting.take(0))) == ([1, 2, 3, 4], [5])


def test_a_single_order_takes_what_waits_apart_and_goes_behind_it() -> None:
    waiting = batcher()
    waiting.add_columns(columns(1, 2), 0)
    waiting.add(order(3), 1)
    assert rows(waiting.take(1)) == [1, 2, 3]
    waiting.add(order(4), 1)
    waiting.add_columns(columns(5), 1)
    assert rows(waiting.take(1)) == [4, 5]


def test_a_fence_reaches_a_row_of_columns_that_wait_and_of_those_that_come_later() -> None:
    waiting = batcher()
    waiting.add_columns(columns(1, 2, 3), 0)
    waiting.fence(2, 3)
    assert rows(waiting.take(0)) == [1, 3]
    waiting.add_columns(columns(2, 4), 0)
    assert rows(waiting.take(0)) == [4]
    # Another attempt, or another request, is not meant.
    waiting.add_columns(columns(5), 0)
    assert whole(waiting.take(0)) == [5]


def test_another_scheduler_wants_none_of_them() -> None:
    waiting = batcher()
    waiting.add_columns(columns(1, 2), 0)
    waiting.clear()
    assert (len(waiting), waiting.take(0)) == (0, None)


def test_a_stage_that_cannot_take_columns_gets_single_orders() -> None:
    waiting = batcher()
    waiting.lean = False
    waiting.add_columns(columns(1, 2), 0)
    assert rows(waiting.take(0)) == [1, 2]
