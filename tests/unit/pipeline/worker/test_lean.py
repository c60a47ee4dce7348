"""A batch that came as columns ends as it would have, had its orders come one by one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.graph.compiled import CompiledPlan
from pipeline.wire.columns import Columns, HopColumn, PassedColumns, TensorColumn, integers, longs, trace_of
from pipeline.wire.messages import Notice, Order, Passed
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.flight import ColumnFlight, Flight, Outcome
from pipeline.worker.lean import Lean
from pipeline.worker.unpacking import orders_of
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from shm.view import SegmentTable
from stages.errors import BadInput, StageBroken
from stages.stage import Batch
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.wire.test_columns import u64

PLAN = make_plan("chain", slots=8, max_batch=8, credits=8)
STAGES = CompiledPlan.of(PLAN).stages
BYTES = 16


def double(batch: Batch) -> None:
    """What the stage does unless a test says otherwise."""
    out = batch.stack_out(PLAN.stages[0].fields[0].spec.name)
    out[...] = 2 * batch.stack("in0")


class Stage:
    """A stage that does what it is told, at once, or when a batch that it has begun is over."""

    def __init__(self, process: Callable[[Batch], Any]) -> None:
        self.process = process
        self.asked = 0

    def start(self, batch: Batch) -> Batch:
        for name in batch._outputs:
            batch.out_rows(name)
        return batch

    def done(self, batch: Batch) -> bool:
        self.asked += 1
        if self.asked % 2:
            return False
        self.process(batch)
        return True


class Bench:
    """Slots of the ingress and of the first stage, and both ways to compute a batch of it."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.made = [create("local", SegmentSpec("lean", f"p{at}", 64, 8, number=50 + at)) for at in range(2)]
        self.table = SegmentTable()
        for segment in self.made:
            self.table.add(segment)
        self.ingress, self.own = [SlotPool(segment) for segment in self.made]

    def close(self) -> None:
        self.table.close()
        for segment in self.made:
            segment.unlink()

    def columns(self, *values: int, hops: int = 2, first: int = 1) -> Columns:
        """Rows with inputs of these values."""
        taken, filled = [self.ingress.loan() for _ in values], [self.own.loan() for _ in values]
        tensor = TensorColumn(0, 50, 0, "uint8", (BYTES,), *_pair(taken))
        way = (HopColumn(0, 4, 51, *_pair(filled)), HopColumn(1, 5, 51, *_pair(filled)))
        requests = range(first, first + len(values))
        made = Columns(
            array("Q", requests).tobytes(), array("I", [0] * len(values)).tobytes(),
            tuple([f"00001-{number}" for number in requests]), way[:hops], (tensor,), (),
        )  # fmt: skip
        for order, value in zip(orders_of(made, STAGES), values):
            self.table.view(order.hop.inputs[0], writable=True)[...] = value  # type: ignore[arg-type]
        return made

    def lean(self, *parts: Columns, process: Callable[[Batch], Any] = double) -> Outcome:
        return self._stage(process)[1].run([(self.now - 5000, part) for part in parts])

    def later(self, *parts: Columns, process: Callable[[Batch], Any] = double) -> Outcome:
        """As `lean`, of a stage that begins a batch and is asked for it later."""
        made = self._stage(process)[1]
        outcome, flight = made.start([(self.now - 5000, part) for part in parts])
        if flight is None:
            return outcome
        assert isinstance(flight, ColumnFlight)
        assert (outcome.notices, outcome.late, outcome.columns, list(made.labels)) == ([], [], {}, [])
        assert (flight.size, flight.requests) == (sum(map(len, parts)), [*range(1, flight.size + 1)])
        assert made.finish(flight) is None
        assert list(made.labels) == []
        came = made.finish(flight)
        assert came is not None
        return came

    def general(self, *parts: Columns, process: Callable[[Batch], Any] = double) -> Outcome:
        rows = [Waiting(order, self.now - 5000) for part in parts for order in orders_of(part, STAGES)]
        return self._stage(process)[0].run(rows)

    def _stage(self, process: Callable[[Batch], Any]) -> tuple[Execution, Lean]:
        made: Any = Stage(process)
        execution = Execution(PLAN.stages[0], 0, STAGES[0].base, made, self.table, clock=lambda: self.now, stages=STAGES)
        self.execution = execution
        self.made_lean = Lean(PLAN.stages[0], 0, made, self.table, STAGES, execution, lambda: self.now)
        return execution, self.made_lean


def _pair(slots: list[tuple[int, int]]) -> tuple[bytes, bytes]:
    return array("I", [slot for slot, _ in slots]).tobytes(), array("Q", [made for _, made in slots]).tobytes()


def said(outcome: Outcome) -> tuple[list[Any], list[Any], list[Order]]:
    """What a batch comes to, in orders and notices of single rows."""
    forwards = [order for orders in outcome.forwards.values() for order in orders]
    for parts in outcome.columns.values():
        forwards += [order for part in parts for order in orders_of(part, STAGES)]
    return _single(outcome.notices), _single(outcome.late), sorted(forwards, key=lambda order: order.request)


def _single(told: list[Any]) -> list[Notice | Passed]:
    single: list[Notice | Passed] = []
    for each in told:
        if isinstance(each, PassedColumns):
            rows = enumerate(zip(longs(each.requests), integers(each.attempts)))
            single += [Passed(request, attempt, trace_of(each.traces, row)) for row, (request, attempt) in rows]
        else:
            single.append(each)
    return sorted(single, key=lambda one: one.request)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.mark.parametrize("hops", [1, 2])
def test_both_ways_come_to_the_same(bench: Bench, hops: int) -> None:
    parts = bench.columns(1, 2, 3, hops=hops), bench.columns(7, hops=hops, first=9)
    lean, general = bench.lean(*parts), bench.general(*parts)
    assert said(lean) == said(general)
    # None of it is taken apart on the way.
    assert not lean.forwards
    assert [type(told) for told in lean.notices + lean.late] == [PassedColumns]
    written = [bench.table.view(order.hop.inputs[0])[0] for order in said(lean)[2]]  # type: ignore[arg-type]
    assert written == ([2, 4, 6, 14] if hops == 2 else [])


@pytest.mark.parametrize("hops", [1, 2])
def test_deadlines_and_origins_are_the_rows_own(bench: Bench, hops: int) -> None:
    seen: list[Any] = []

    def look(batch: Batch) -> None:
        seen.append([(request.id, request.deadline, request.traceparent) for request in batch.requests])
        double(batch)

    first = bench.columns(1, 2, hops=hops)
    second = bench.columns(3, first=3, hops=hops)
    told = msgspec.structs.replace(
        second, deadlines=u64(bench.now + 7), started=u64(bench.now - 9_000), traceparents=("t3",)
    )
    lean, general = bench.lean(first, told, process=look), bench.general(first, told, process=look)
    assert said(lean) == said(general)
    assert not lean.forwards
    assert seen[0] == seen[1] == [
        ("00001-1", 0, ""), ("00001-2", 0, ""), ("00001-3", bench.now + 7, "t3")
    ]  # fmt: skip


def test_a_row_that_is_late_is_not_computed_and_its_mates_are(bench: Bench) -> None:
    for process in (bench.lean, bench.later):
        columns = msgspec.structs.replace(bench.columns(1, 2), deadlines=u64(bench.now, bench.now + 1))
        if process == bench.later:
            outcome, flight = bench._stage(double)[1].start([(bench.now, columns)])
            assert isinstance(flight, Flight)
            assert flight.requests == [2]
        else:
            outcome = bench.lean(columns)
            assert said(outcome) == said(bench.general(columns))
        late = [(one.request, one.code) for one in said(outcome)[0] if isinstance(one, Notice)]
        assert late == [(1, "DeadlineExceeded")]


def test_rows_lie_in_the_order_of_their_slots_so_that_they_are_one_view(bench: Bench) -> None:
    seen: list[Any] = []

    def look(batch: Batch) -> None:
        seen.append((batch.stack("in0")[:, 0].tolist(), [request.id for request in batch.requests]))
        double(batch)
        seen.append(batch.bytes_copied)

    first, second = bench.columns(1, 2), bench.columns(3, first=3)
    assert said(bench.lean(second, first, process=look)) == said(bench.general(second, first))
    assert seen == [([1, 2, 3], ["00001-1", "00001-2", "00001-3"]), 0]


def test_a_row_whose_slot_has_come_back_fails_and_its_mates_go_on(bench: Bench) -> None:
    columns = bench.columns(1, 2)
    slot, generation = integers(columns.tensors[0].slots)[1], longs(columns.tensors[0].generations)[1]
    bench.ingress.abandon(slot, generation)
    lean = bench.lean(columns)
    assert bench.execution.refused == 1
    assert [notice.code for notice in lean.notices if isinstance(notice, Notice)] == ["StageFailed"]
    assert [order.request for order in said(lean)[2]] == [1]
    assert said(lean) == said(bench.general(columns))


def test_a_tensor_that_does_not_fit_its_slot_fails_every_row(bench: Bench) -> None:
    columns = bench.columns(1, 2)
    hostile = msgspec.structs.replace(columns.tensors[0], offset=60)
    lean = bench.lean(msgspec.structs.replace(columns, tensors=(hostile,)))
    assert [notice.code for notice in lean.notices if isinstance(notice, Notice)] == ["StageFailed"] * 2


def test_a_row_that_the_stage_blames_fails_alone(bench: Bench) -> None:
    def blame(batch: Batch) -> None:
        double(batch)
        batch.fail(1, BadInput("a bad one"))

    columns = bench.columns(1, 2, 3)
    lean = bench.lean(columns, process=blame)
    assert [(one.request, one.code) for one in said(lean)[0] if isinstance(one, Notice)] == [(2, "BadInput")]
    assert [order.request for order in said(lean)[2]] == [1, 3]
    assert said(lean) == said(bench.general(columns, process=blame))


def test_if_a_batch_raises_its_rows_run_again_one_by_one(bench: Bench) -> None:
    def refuse(batch: Batch) -> None:
        if any(np.any(view == 2) for view in batch.rows("in0")):
            raise BadInput("a two")
        double(batch)

    columns = bench.columns(1, 2, 3)
    lean = bench.lean(columns, process=refuse)
    assert [(one.request, one.code) for one in said(lean)[0] if isinstance(one, Notice)] == [(2, "BadInput")]
    assert said(lean) == said(bench.general(columns, process=refuse))


def test_a_batch_that_is_begun_and_asked_for_later_comes_to_the_same(bench: Bench) -> None:
    def blame(batch: Batch) -> None:
        double(batch)
        batch.fail(1, BadInput("a bad one"))

    def refuse(batch: Batch) -> None:
        if any(np.any(view == 2) for view in batch.rows("in0")):
            raise BadInput("a two")
        double(batch)

    for hops in (1, 2):
        columns = bench.columns(1, 2, 3, hops=hops)
        for process in (double, blame, refuse):
            later = bench.later(columns, process=process)
            assert said(later) == said(bench.general(columns, process=process))
            assert bool(later.forwards) is (process is not double and hops == 2)
        bench.ingress, bench.own = (SlotPool(segment) for segment in bench.made)


def test_a_stage_that_cannot_begin_a_batch_has_none_in_flight(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Stage, batch: Batch) -> None:
        raise BadInput("not now")

    monkeypatch.setattr(Stage, "start", refuse)
    columns = bench.columns(1)
    made = bench._stage(double)[1]
    outcome, flight = made.start([(0, columns)])
    assert flight is None
    assert [one.code for one in said(outcome)[0] if isinstance(one, Notice)] == ["BadInput"]
    assert list(made.labels) == []


def test_what_is_not_common_after_all_is_begun_as_single_orders(bench: Bench) -> None:
    columns = bench.columns(1, 2)
    slot, generation = integers(columns.tensors[0].slots)[1], longs(columns.tensors[0].generations)[1]
    bench.ingress.abandon(slot, generation)
    outcome, flight = bench._stage(double)[1].start([(0, columns)])
    assert isinstance(flight, Flight)
    assert flight.requests == [1]
    assert [(one.request, one.code) for one in said(outcome)[0] if isinstance(one, Notice)] == [(2, "StageFailed")]


def test_an_output_that_was_forgotten_fails_its_rows(bench: Bench) -> None:
    columns = bench.columns(1, 2)
    lean = bench.lean(columns, process=lambda batch: None)
    assert [one.code for one in said(lean)[0] if isinstance(one, Notice)] == ["StageFailed"] * 2
    assert said(lean) == said(bench.general(columns, process=lambda batch: None))


def test_what_goes_to_different_workers_is_computed_row_by_row(bench: Bench) -> None:
    first, second = bench.columns(1), bench.columns(2, first=2)
    hop = msgspec.structs.replace(second.hops[1], worker=6)
    lean = bench.lean(first, msgspec.structs.replace(second, hops=(second.hops[0], hop)))
    assert sorted(lean.forwards) == [5, 6]


def test_what_was_copied_and_how_long_rows_waited_is_counted(bench: Bench) -> None:
    bench.lean(bench.columns(1, 2), bench.columns(3, first=3))
    times = bench.execution.times
    assert sum(times.queue().buckets) == 3
    assert times.queue().sum_us == 15
    assert bench.execution.copies == ()


def test_the_labels_of_what_is_computed_are_known_also_if_the_process_must_end(bench: Bench) -> None:
    def end(batch: Batch) -> None:
        raise StageBroken("no more")

    with pytest.raises(StageBroken):
        bench.lean(bench.columns(1, 2), process=end)
    assert list(bench.made_lean.labels) == ["00001-1", "00001-2"]
    bench.lean(bench.columns(3, first=3))
    assert list(bench.made_lean.labels) == []


def test_only_a_stage_of_fixed_shapes_is_able() -> None:
    for name, able in (("chain", True), ("sizes", False)):
        plan = make_plan(name)
        stages = CompiledPlan.of(plan).stages
        made: Any = Stage(double)
        table = SegmentTable()
        execution = Execution(plan.stages[0], 0, stages[0].base, made, table, stages=stages)
        assert Lean(plan.stages[0], 0, made, table, stages, execution).able is able
