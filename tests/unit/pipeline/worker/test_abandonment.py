"""Which rows of a batch that answers in parts are not wanted any more."""

from __future__ import annotations

import pytest

from pipeline.wire.messages import Fence, Fences, Message, Reset, Stop
from pipeline.worker.abandonment import all_wanted, unwanted
from pipeline.worker.candidates import Waiting
from tests.unit.pipeline.worker.test_execution import Bench

WORKER, EPOCH = 4, 3


@pytest.fixture
def rows() -> list[Waiting]:
    bench = Bench()
    return [bench.order(request, bench.handle(1, 2, 3, 4)) for request in (7, 8)]


def fences(*orders: tuple[int, int], worker: int = WORKER, epoch: int = EPOCH) -> Fences:
    return Fences(epoch, worker, tuple([Fence(*order) for order in orders]))


@pytest.mark.parametrize(
    ("came", "places"),
    [
        ((), []),
        ((Stop(),), []),
        ((fences((8, 2)),), [1]),
        ((fences((8, 2)), Stop(), fences((1, 2), (7, 2))), [0, 1]),
        ((fences((8, 1)),), []),
        ((fences((8, 2), worker=5),), []),
        ((fences((8, 2), epoch=2),), []),
        ((Reset(4, ()),), [0, 1]),
    ],
)
def test_a_fenced_order_is_not_wanted_and_none_is_if_another_scheduler_has_come(
    rows: list[Waiting], came: tuple[Message, ...], places: list[int]
) -> None:
    assert unwanted(rows, came, WORKER, EPOCH) == places


def test_all_are_wanted_where_nothing_can_come(rows: list[Waiting]) -> None:
    assert all_wanted(rows) == ()
