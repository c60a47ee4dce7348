"""What a worker says of rows that it has finished, and what it hands on."""

from __future__ import annotations

from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import Notices, Passed
from pipeline.wire.traces import traces_in
from tests.unit.pipeline.worker.test_execution import NOW, ROUTE, Bench, Stage, bench, codes, fill, refuse_negative

__all__ = ["bench"]


def test_an_order_goes_on_to_the_first_hop_of_its_route(bench: Bench) -> None:
    row = bench.order(1, bench.handle(1, 2, 3, 4), ROUTE, deadline=NOW + 10**12)
    outcome = bench.run(Stage(fill), row)
    assert outcome.notices == []
    (notice,) = outcome.late
    (forward,) = outcome.forwards.pop(8)
    assert not outcome.forwards
    assert (forward.hop.worker, forward.hop.inputs, forward.route) == (8, notice.outputs, b"")
    # The scheduler is told of this stage alone, and the worker that ends the order tells of all.
    assert (forward.trace, forward.deadline) == (row.order.trace + notice.trace, row.order.deadline)
    assert len(traces_in(notice.trace)) == 1
    assert decode(encode(Notices(0, 5, (notice,)))) == Notices(0, 5, (notice,))


def test_what_lies_where_the_plan_says_is_not_told(bench: Bench) -> None:
    bench.made = ((0, "int32", (4,)), (64, "int64", (1,)))
    row = bench.order(1, bench.handle(1, 2, 3, 4))
    outcome = bench.run(Stage(fill), row, bench.order(2, bench.handle(1, 2, 3, 4), ROUTE))
    (passed,), (late,) = outcome.notices, outcome.late
    assert (passed.request, passed.attempt, len(traces_in(passed.trace))) == (1, 2, 2)
    assert (late.request, late.attempt, len(traces_in(late.trace))) == (2, 2, 1)
    assert {type(passed), type(late)} == {Passed}
    # What goes wrong is.
    outcome = bench.run(Stage(refuse_negative), bench.order(3, bench.handle(-1, 0, 0, 0)))
    assert codes(outcome) == {3: "BadInput"}


def test_a_notice_that_is_waited_for_is_not_late(bench: Bench) -> None:
    outcome = bench.run(Stage(fill), bench.order(1, bench.handle(1, 1, 1, 1), ROUTE, awaited=True))
    assert [notice.request for notice in outcome.notices] == [1]
    assert outcome.late == []
    assert list(outcome.forwards) == [8]


def test_a_row_that_failed_goes_no_further(bench: Bench) -> None:
    on = ROUTE
    outcome = bench.run(
        Stage(refuse_negative), bench.order(1, bench.handle(-1, 0, 0, 0), on), bench.order(2, bench.handle(1, 0, 0, 0), on)
    )
    assert codes(outcome) == {1: "BadInput"}
    assert [order.request for order in outcome.forwards[8]] == [2]
