"""The orders that columns stand for."""

from __future__ import annotations

from pipeline.graph.compiled import CompiledPlan
from pipeline.wire.columns import TensorColumn
from pipeline.wire.messages import Hop, Known, Order
from pipeline.wire.route import packed
from pipeline.wire.traces import TRACE_BYTES
from pipeline.worker.unpacking import handles_of, misfit, orders_of
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.wire.test_columns import columns, u32, u64

STAGES = CompiledPlan.of(make_plan("chain")).stages


def test_each_row_is_the_order_that_it_stands_for() -> None:
    first, second = orders_of(columns(3, 7), STAGES)
    x = TensorHandle(8, 7, 15, 0, "uint8", (16,))
    hop = Hop(0, 4, 9, 7, 15, STAGES[0].notifies_at_once, (x,), ())
    trace = bytes([7]) * TRACE_BYTES
    # The stage behind reads what this one makes.
    assert second == Order(7, 8, 0, 0, hop, trace, "r-7", route=packed(1, 0, 5, 0, 0, 0))
    assert (first.request, first.attempt, first.label, first.hop.slot) == (3, 4, "r-3", 3)


def test_a_row_has_its_own_deadline_and_origin() -> None:
    told = columns(3, 7, deadlines=u64(0, 70), started=u64(30, 0), traceparents=("t3", ""))
    found = [(order.deadline, order.started, order.traceparent) for order in orders_of(told, STAGES)]
    assert found == [(0, 30, "t3"), (70, 0, "")]


def test_what_a_later_hop_reads_goes_with_the_order() -> None:
    made = STAGES[1].sources[0]
    there = TensorColumn(made, 8, 0, "uint8", (16,), u32(3), u64(7))
    (order,) = orders_of(columns(3, tensors=(there,)), STAGES)
    handle = TensorHandle(8, 3, 7, 0, "uint8", (16,))
    assert handles_of(there) == [handle]
    assert order.known == (Known(made, handle),)
    # The first stage's own input is not there: its worker fails the row.
    assert order.hop.inputs == (STAGES[0].sources[0],)


def test_columns_for_another_stage_or_through_none_of_this_pipeline_do_not_fit() -> None:
    assert misfit(columns(3), 0, STAGES) is None
    assert misfit(columns(3), 1, STAGES) == "expected orders of stage 1, found a way through the stages [0, 1]"
    assert misfit(columns(3), 0, STAGES[:1]) is not None
