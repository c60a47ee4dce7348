"""A batcher counts rows: orders of several stay whole, and count as so many."""

from __future__ import annotations

import pytest

from pipeline.wire.messages import Hop, Order
from pipeline.worker.batcher import Batcher, Closed
from pipeline.worker.candidates import Place

NOWHERE = Hop(0, 0, 0, 0, 0, False, (), ())
MS = 1_000_000


def batcher_of(*rows: int, max_size: int = 8, delay_ms: int = 10, credits: int = 64, **more: object) -> Batcher:
    """Orders 0, 1, ... of so many rows."""
    batcher = Batcher(max_size, delay_ms * MS, credits, **more)  # type: ignore[arg-type]
    for request, count in enumerate(rows):
        assert batcher.add(Order(request, 0, 0, 0, NOWHERE, b"", "", rows=count), request)
    return batcher


def taken(closed: Closed | None) -> tuple[list[int], str] | None:
    return None if closed is None else ([row.order.request for row in closed.rows], closed.reason)


def test_a_batch_is_full_by_its_rows() -> None:
    batcher = batcher_of(3, 3)
    assert batcher.take(2) is None
    assert len(batcher) == 6
    batcher.add(Order(2, 0, 0, 0, NOWHERE, b"", "", rows=2), 2)
    assert taken(batcher.take(3)) == ([0, 1, 2], "full")
    assert len(batcher) == 0


def test_an_order_stays_whole_and_a_younger_one_that_fits_goes_before_it() -> None:
    batcher = batcher_of(5, 5, 3)
    assert taken(batcher.take(3)) == ([0, 2], "full")
    # What did not fit leads the next batch.
    assert taken(batcher.take(20 * MS)) == ([1], "delay")


def test_an_order_of_more_rows_than_a_batch_is_one_by_itself() -> None:
    batcher = batcher_of(20, 1)
    assert taken(batcher.take(0)) == ([0], "full")
    assert len(batcher) == 1


def test_waiting_ends_when_the_rows_here_are_all_that_there_are_credits_for() -> None:
    batcher = batcher_of(4, 2, max_size=16, credits=6)
    assert taken(batcher.take(1)) == ([0, 1], "slots")
    batcher = batcher_of(4, max_size=16, credits=6)
    assert batcher.take(1) is None
    batcher.flying = 2
    assert taken(batcher.take(1)) == ([0], "slots")


def test_a_fence_takes_an_orders_rows_out() -> None:
    batcher = batcher_of(3, 4)
    batcher.fence(0, 0)
    assert len(batcher) == 4


@pytest.mark.parametrize("gather", [True, False])
def test_an_order_of_several_rows_is_no_neighbour_of_others(gather: bool) -> None:
    def place(order: Order) -> Place:
        at = order.request
        return Place((-1, at), (-2, at)) if order.rows > 1 else Place((at,), (at + 1,))

    batcher = batcher_of(1, 1, 4, 1, max_size=4, place=place, gather=gather)
    # 0 and 1 lie side by side; with `gather`, 3 goes with them, but 2 has too many rows for what is left.
    assert taken(batcher.take(20 * MS)) == (([0, 1, 3] if gather else [0, 1]), "delay" if not gather else "full")
    assert taken(batcher.take(20 * MS)) == ([2], "full")
