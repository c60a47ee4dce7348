"""Columns that are more than a batch are cut, and a batch has the rows that it would have had as single orders."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.graph.compiled import CompiledPlan
from pipeline.wire.columns import Columns, HopColumn, TensorColumn, integers, longs, trace_of
from pipeline.worker.column_queue import ColumnQueue
from pipeline.worker.grouping import batcher_of
from pipeline.worker.unpacking import orders_of
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.wire.test_columns import columns, u32, u64

PLAN = make_plan("chain", slots=8, max_batch=3, credits=64)
STAGES = CompiledPlan.of(PLAN).stages


def in_slots(slots: list[tuple[int, int]], first: int) -> Columns:
    """Rows that read these slots and fill those; requests are numbered from `first`."""
    requests = range(first, first + len(slots))
    reads, fills = u32(*[slot for slot, _ in slots]), u32(*[slot for _, slot in slots])
    generations = u64(*[1] * len(slots))
    return Columns(
        u64(*requests),
        u32(*[0] * len(slots)),
        tuple([f"r-{request}" for request in requests]),
        (HopColumn(0, 4, 9, fills, generations),),
        (TensorColumn(0, 8, 0, "uint8", (16,), reads, generations),),
        (),
    )


@given(
    slots=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12, unique=True),
    cuts=st.sets(st.integers(1, 11)),
)
def test_batches_have_the_rows_that_they_have_as_single_orders(slots: list[tuple[int, int]], cuts: set[int]) -> None:
    # Slots that are read belong to one row each, as all do that are out.
    slots = [(place, other) for place, (_, other) in zip([7 * at % 12 for at in range(12)], slots)]
    lean, general = batcher_of(PLAN, 0), batcher_of(PLAN, 0)
    lean.lean = True
    edges = [0, *sorted(cut for cut in cuts if cut < len(slots)), len(slots)]
    for start, end in pairwise(edges):
        part = in_slots(slots[start:end], start)
        lean.add_columns(part, start)
        general.add_columns(part, start)
    while (whole := lean.take(50)) is not None:
        single = general.take(50)
        assert single is not None
        assert not whole.rows
        assert not single.columns
        assert whole.reason == single.reason
        found = {(order.request, came) for came, part in whole.columns for order in orders_of(part, STAGES)}
        assert found == {(row.order.request, row.arrived) for row in single.rows}
        assert (len(lean), lean.wake_at()) == (len(general), general.wake_at())
    assert general.take(50) is None


def test_a_row_keeps_all_that_is_its_own() -> None:
    queue = ColumnQueue((), False)
    queue.add(columns(1, 2, 3), 10)
    queue.add(columns(4, 5), 11)
    batches = [queue.take(2), queue.take(2), queue.take(2)]
    assert len(queue) == 0
    assert [[(came, longs(part.requests)) for came, part in batch or ()] for batch in batches] == [
        [(10, [1, 2])], [(10, [3]), (11, [4])], [(11, [5])],
    ]  # fmt: skip
    for _, part in [each for batch in batches for each in batch or ()]:
        for row, request in enumerate(longs(part.requests)):
            assert integers(part.attempts)[row] == request + 1
            assert part.labels[row] == f"r-{request}"
            assert integers(part.hops[0].slots)[row] == integers(part.tensors[0].slots)[row] == request
            assert longs(part.hops[0].generations)[row] == 2 * request + 1
            assert set(trace_of(part.traces, row)) == {request}


@pytest.mark.parametrize("most", [4, 5])
def test_rows_that_go_different_ways_are_not_cut(most: int) -> None:
    queue = ColumnQueue((), False)
    queue.add(columns(1, 2, 3), 10)
    queue.add(columns(4, 5, worker=6), 11)
    taken = queue.take(most)
    assert (taken is None) is (most == 4)
    assert len(queue) == (5 if most == 4 else 0)


def test_neighbours_in_both_directions_go_with_the_oldest() -> None:
    queue = ColumnQueue((0,), False)
    queue.add(in_slots([(5, 0), (1, 0), (6, 0), (9, 0), (4, 0)], 0), 10)
    (taken,) = queue.take(3) or ()
    assert longs(taken[1].requests) == [0, 2, 4]
    (taken,) = queue.take(1) or ()
    assert longs(taken[1].requests) == [1]


def test_a_place_of_another_tensor_does_not_count() -> None:
    queue = ColumnQueue((7,), True)
    part = replace(in_slots([(5, 1), (1, 4), (6, 2)], 0))
    queue.add(part, 10)
    (taken,) = queue.take(2) or ()
    assert longs(taken[1].requests) == [0, 2]
