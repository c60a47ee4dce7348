"""Execution over real slots: one stage between a pool of inputs and a pool of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as replace_fields
from typing import Any

import numpy as np
import pytest

from pipeline.graph.compiled import CompiledPlan, CompiledStage
from pipeline.graph.plan import BatchPlan, Edge, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of, slot_bytes
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import OK, Copied, Hop, Notice, Notices, Order, Trace, WorkerReport
from pipeline.wire.route import packed as packed_hop
from pipeline.wire.traces import packed, traces_in
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.flight import Outcome
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from shm.view import SegmentTable
from stages import copies
from stages.copies import GATHERED, OUTPUT, RETURNED
from stages.errors import BadInput, StageBroken
from stages.request import RequestInfo
from stages.spec import TensorSpec
from stages.stage import Batch
from tests.unit.pipeline.scheduler.graphs import make_plan

INPUT = TensorSpec("x", "int32", (4,))
OUTPUTS = (TensorSpec("y", "int32", (4,)), TensorSpec("n", "int64", ("N",), {"N": 8}))
INDEX, BASE = 3, 10
NOW = 1_000_000_000

#: To worker 8 of the stage behind.
ROUTE = packed_hop(INDEX + 1, 0, 8, 0, 0, 0)

Process = Callable[[Batch], Any]


class Stage:
    """Does what the test says; remembers how large the batches were."""

    def __init__(self, process: Process) -> None:
        self.inputs: Sequence[TensorSpec] = (INPUT,)
        self.outputs: Sequence[TensorSpec] = OUTPUTS
        self.batches: list[int] = []
        self._process = process

    def process(self, batch: Batch) -> Any:
        self.batches.append(len(batch))
        return self._process(batch)


def fill(batch: Batch) -> None:
    """y = x + 1 and n = sum(x), row by row."""
    for row, x in enumerate(batch.rows("x")):
        batch.out(row, "y")[...] = x + 1
        batch.write(row, "n", np.array([x.sum()], np.int64))


def refuse_negative(batch: Batch) -> None:
    for x in batch.rows("x"):
        if x[0] < 0:
            raise BadInput(f"{x[0]} is negative")
    fill(batch)


class Bench:
    """Two pools, and orders over them."""

    def __init__(self) -> None:
        self.table = SegmentTable()
        fields = fields_of(OUTPUTS)
        self.segments = [
            create("local", SegmentSpec("run", name, size, 8)) for name, size in (("in", 64), ("out", slot_bytes(fields)))
        ]
        for segment in self.segments:
            self.table.add(segment)
        self.pools = [SlotPool(segment) for segment in self.segments]
        self.plan = StagePlan(
            name="middle", use="m:C", options={}, inputs=(INPUT,), edges=(Edge("ingress", "x"),), after=(),
            outputs=OUTPUTS, fields=fields, batch=BatchPlan(4), credits=8, workers=(WorkerPlan("middle", 0),),
        )  # fmt: skip
        self.now = NOW
        #: Where the plan says that the outputs lie; None: nowhere.
        self.made: tuple[tuple[int, str, tuple[int, ...]], ...] | None = None

    def stages(self) -> tuple[CompiledStage, ...]:
        """The stage, and the one behind it, which reads all that it makes."""
        (any_,) = [stage for stage in CompiledPlan.of(make_plan("chain")).stages if not stage.index]
        sources = tuple(range(BASE, BASE + len(self.plan.fields)))
        behind = replace_fields(any_, index=INDEX + 1, sources=sources)
        return (*[any_] * INDEX, replace_fields(any_, index=INDEX, base=BASE, made=self.made), behind)

    def run(self, stage: Stage, *rows: Waiting) -> Outcome:
        execution = Execution(self.plan, INDEX, BASE, stage, self.table, clock=self.clock, stages=self.stages())
        outcome = execution.run(rows)
        self.refused = execution.refused
        self.said = execution.failures.take(everything=True)
        self.copies = execution.copies
        return outcome

    def clock(self) -> int:
        self.now += 1_000_000
        return self.now

    def handle(self, *values: int) -> TensorHandle:
        slot, generation = self.pools[0].loan()
        handle = TensorHandle(self.segments[0].number, slot, generation, 0, "int32", (4,))
        self.table.view(handle, writable=True)[...] = values
        return handle

    def order(
        self, request: int, given: TensorHandle | int, route: bytes = b"", *, deadline: int = 0, awaited: bool = False
    ) -> Waiting:
        slot, generation = self.pools[1].loan()
        hop = Hop(INDEX, 5, self.segments[1].number, slot, generation, awaited, (given,), ())
        trace = packed(Trace(0, 1, 2, 3, 4))
        label = f"00abc-{request} {request}.jpg"
        return Waiting(Order(request, 2, deadline, 0, hop, trace, label, route=route), NOW - 5_000_000)

    def read(self, notice: Notice) -> dict[str, list[int]]:
        assert (notice.code, notice.message) == (OK, "")
        return {spec.name: self.table.view(handle).tolist() for spec, handle in zip(OUTPUTS, notice.outputs)}


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.table.close()
    for segment in made.segments:
        segment.unlink()


def codes(outcome: Outcome) -> dict[int, str]:
    return {notice.request: notice.code for notice in outcome.notices}


def test_a_batch_fills_the_slots_of_its_orders(bench: Bench) -> None:
    stage = Stage(fill)
    outcome = bench.run(stage, bench.order(1, bench.handle(1, 2, 3, 4)), bench.order(2, bench.handle(5, 6, 7, 8)))
    assert stage.batches == [2]
    assert [bench.read(notice) for notice in outcome.notices] == [
        {"y": [2, 3, 4, 5], "n": [10]},
        {"y": [6, 7, 8, 9], "n": [26]},
    ]
    assert [(notice.request, notice.attempt) for notice in outcome.notices] == [(1, 2), (2, 2)]
    assert outcome.forwards == {}
    assert outcome.late == []


def test_outputs_are_named_in_the_order_of_the_fields_whatever_the_order_of_writing(bench: Bench) -> None:
    def backwards(batch: Batch) -> None:
        batch.write(0, "n", np.array([7], np.int64))
        batch.out(0, "y")[...] = 1

    (notice,) = bench.run(Stage(backwards), bench.order(1, bench.handle(0, 0, 0, 0))).notices
    assert bench.read(notice) == {"y": [1, 1, 1, 1], "n": [7]}
    assert [handle.offset for handle in notice.outputs] == [field.offset for field in bench.plan.fields]


def test_one_bad_row_fails_alone_and_its_mates_succeed(bench: Bench) -> None:
    stage = Stage(refuse_negative)
    outcome = bench.run(stage, *(bench.order(n, bench.handle(first, 0, 0, 0)) for n, first in enumerate((5, -6, 7))))
    assert codes(outcome) == {0: OK, 1: "BadInput", 2: OK}
    assert (outcome.notices[1].message, bench.said) == ("-6 is negative", [])
    assert outcome.notices[1].outputs == ()
    assert bench.read(outcome.notices[2])["y"][0] == 8
    assert stage.batches == [3, 1, 1, 1]
    assert {traces_in(notice.trace)[-1].batch for notice in outcome.notices} == {1}


def test_a_row_that_the_stage_fails_itself_costs_no_second_run(bench: Bench) -> None:
    def mark(batch: Batch) -> None:
        fill(batch)
        batch.fail(1, "not this one")

    stage = Stage(mark)
    outcome = bench.run(stage, *(bench.order(n, bench.handle(n, 0, 0, 0)) for n in range(3)))
    assert codes(outcome) == {0: OK, 1: "BadInput", 2: OK}
    assert outcome.notices[1].message == "not this one"
    assert stage.batches == [3]


def test_a_broken_stage_ends_the_process_and_no_notice_is_given(bench: Bench) -> None:
    def broken(batch: Batch) -> None:
        raise StageBroken("the device is lost")

    with pytest.raises(StageBroken, match="the device is lost"):
        bench.run(Stage(broken), bench.order(1, bench.handle(0, 0, 0, 0)), bench.order(2, bench.handle(0, 0, 0, 0)))


def test_any_other_exception_fails_the_row_and_says_where(bench: Bench) -> None:
    def divide(batch: Batch) -> None:
        1 // int(batch.rows("x")[0][0])
        fill(batch)

    stage = Stage(divide)
    outcome = bench.run(stage, bench.order(1, bench.handle(0, 0, 0, 0)), bench.order(2, bench.handle(1, 0, 0, 0)))
    assert codes(outcome) == {1: "StageFailed", 2: OK}
    line = divide.__code__.co_firstlineno + 1
    expected = f"stage middle: ZeroDivisionError: integer division or modulo by zero (test_execution.py:{line})"
    assert outcome.notices[0].message == expected


def test_a_failed_row_brings_its_traceback_and_no_other_rows(bench: Bench) -> None:
    def divide(batch: Batch) -> None:
        for row, x in enumerate(batch.rows("x")):
            batch.out(row, "y")[...] = 12 // int(x[0])
        fill(batch)

    outcome = bench.run(Stage(divide), *(bench.order(n, bench.handle(n, 0, 0, 0)) for n in range(2)))
    text, nothing = (notice.traceback for notice in sorted(outcome.notices, key=lambda notice: notice.request))
    assert nothing == ""
    assert text.startswith("Traceback (most recent call last):\n  File ")
    assert text.endswith("ZeroDivisionError: integer division or modulo by zero")
    frames = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("  File ")]
    assert frames == ["process", "divide"]
    # The batch failed with the same first; that is not the cause of this one.
    assert "During handling" not in text


def test_a_refused_row_brings_no_traceback_and_nothing_is_said_of_it(bench: Bench) -> None:
    outcome = bench.run(Stage(refuse_negative), bench.order(1, bench.handle(-1, 0, 0, 0)))
    assert ([(notice.code, notice.traceback) for notice in outcome.notices], bench.said) == ([("BadInput", "")], [])


def test_what_fails_is_said_once_with_the_request(bench: Bench) -> None:
    def divide(batch: Batch) -> None:
        raise ValueError(f"no {batch.rows('x')[0][0]}")

    bench.run(Stage(divide), *(bench.order(n, bench.handle(n, 0, 0, 0)) for n in range(1, 4)))
    first, again = bench.said
    line = divide.__code__.co_firstlineno + 1
    assert first.text == f"request 00abc-1 (1.jpg) failed in stage middle: ValueError: no 1 (test_execution.py:{line})"
    assert first.traceback.endswith("ValueError: no 1")
    assert (first.level, first.stage, first.requests) == ("error", "middle", ("00abc-1 1.jpg",))
    assert again.text == f"again, 2 times: ValueError (test_execution.py:{line}), last request 00abc-3 (3.jpg)"


@pytest.mark.parametrize("kind", [ValueError, BadInput])
def test_a_batch_that_fails_though_none_of_its_rows_does_is_said_too(bench: Bench, kind: type[Exception]) -> None:
    def only_one(batch: Batch) -> None:
        if len(batch) > 1:
            raise kind("not so many")
        fill(batch)

    outcome = bench.run(Stage(only_one), *(bench.order(n, bench.handle(n, 0, 0, 0)) for n in range(3)))
    assert set(codes(outcome).values()) == {OK}
    said = f"a batch of 3 failed in stage middle: {kind.__name__}: not so many (test_execution.py:"
    assert bench.said[0].text.startswith(said)
    assert "is process right for several rows?" in bench.said[0].text
    assert bench.said[0].requests == ()


def test_a_stage_knows_the_request_of_each_row(bench: Bench) -> None:
    seen: dict[int, RequestInfo] = {}

    def look(batch: Batch) -> None:
        for x, request in zip(batch.rows("x"), batch.requests):
            seen[int(x[0])] = request
        fill(batch)

    bench.run(Stage(look), *(bench.order(n, bench.handle(n, 0, 0, 0)) for n in (1, 2)))
    assert seen == {n: RequestInfo(f"00abc-{n}", f"{n}.jpg") for n in (1, 2)}


def test_the_rows_under_way_are_known_while_they_are_computed_and_no_longer(bench: Bench) -> None:
    seen: list[list[int]] = []

    def look(batch: Batch) -> None:
        seen.append(sorted(row.order.request for row in execution.under_way))
        if len(batch) > 1:
            raise ValueError("alone")
        fill(batch)

    execution = Execution(bench.plan, INDEX, BASE, Stage(look), bench.table)
    execution.run([bench.order(n, bench.handle(n, 0, 0, 0)) for n in (1, 2)])
    assert (seen, execution.under_way) == ([[1, 2], [1], [2]], ())


def test_an_output_that_was_not_filled_fails_the_row(bench: Bench) -> None:
    def half(batch: Batch) -> None:
        batch.out(0, "y")[...] = 1

    (notice,) = bench.run(Stage(half), bench.order(1, bench.handle(0, 0, 0, 0))).notices
    assert (notice.code, notice.traceback) == ("StageFailed", "")
    assert "output 'n' of row 0: process neither filled nor returned it" in notice.message


@pytest.mark.parametrize("text", ["x" * 10_000_000, "bad \udcff name"], ids=["huge", "surrogate"])
@pytest.mark.parametrize("kind", [BadInput, RuntimeError])
def test_whatever_a_stage_says_its_notice_can_be_sent(bench: Bench, kind: type[Exception], text: str) -> None:
    def complain(batch: Batch) -> None:
        raise kind(text)

    outcome = bench.run(Stage(complain), bench.order(1, bench.handle(0, 0, 0, 0)))
    message = Notices(0, 5, tuple(outcome.notices))
    assert len(encode(message)) < 20_000
    assert type(decode(encode(message))) is Notices
    assert text[:3] in outcome.notices[0].message


def test_an_exception_that_cannot_say_what_it_is_fails_the_row(bench: Bench) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def complain(batch: Batch) -> None:
        raise Mute

    (notice,) = bench.run(Stage(complain), bench.order(1, bench.handle(0, 0, 0, 0))).notices
    assert notice.code == "StageFailed"
    assert "Mute" in notice.message


def test_a_stale_handle_fails_its_row_and_is_never_read(bench: Bench) -> None:
    stale = bench.handle(6, 6, 6, 6)
    bench.pools[0].abandon(stale.slot, stale.generation)
    seen: list[int] = []

    def watch(batch: Batch) -> None:
        seen.extend(int(x[0]) for x in batch.rows("x"))
        fill(batch)

    outcome = bench.run(Stage(watch), bench.order(1, stale), bench.order(2, bench.handle(7, 0, 0, 0)))
    assert codes(outcome) == {1: "StageFailed", 2: OK}
    assert "StaleHandle" in outcome.notices[0].message
    assert seen == [7]
    assert bench.refused == 1


def test_a_tensor_that_was_not_filled_in_fails_its_row(bench: Bench) -> None:
    (notice,) = bench.run(Stage(fill), bench.order(1, 12)).notices
    assert notice.code == "StageFailed"
    assert "tensor 12 was not filled in by the stage before" in notice.message
    assert bench.refused == 1


def test_a_slot_that_was_given_to_another_request_is_not_written(bench: Bench) -> None:
    late = bench.order(1, bench.handle(1, 1, 1, 1))
    hop = late.order.hop
    bench.pools[1].abandon(hop.slot, hop.generation)
    slot, generation = bench.pools[1].loan()
    assert slot == hop.slot
    theirs = TensorHandle(hop.segment, slot, generation, 0, "int32", (4,))
    bench.table.view(theirs, writable=True)[...] = 9
    outcome = bench.run(Stage(fill), late, bench.order(2, bench.handle(1, 1, 1, 1)))
    assert codes(outcome) == {1: "StageFailed", 2: OK}
    assert bench.table.view(theirs).tolist() == [9, 9, 9, 9]


def test_a_row_that_is_late_is_not_computed(bench: Bench) -> None:
    stage = Stage(fill)
    outcome = bench.run(
        stage,
        bench.order(1, bench.handle(1, 1, 1, 1), deadline=NOW - 2_000_000),
        bench.order(2, bench.handle(1, 1, 1, 1), deadline=NOW + 10**9),
    )
    assert codes(outcome) == {1: "DeadlineExceeded", 2: OK}
    assert outcome.notices[0].message == "3.0 ms late"
    assert stage.batches == [1]
    outcome = bench.run(stage, bench.order(3, bench.handle(1, 1, 1, 1), deadline=1))
    assert codes(outcome) == {3: "DeadlineExceeded"}
    assert stage.batches == [1]


def test_the_trace_says_how_long_how_many_and_how_much_was_copied(bench: Bench) -> None:
    def returns(batch: Batch) -> dict[str, Any]:
        return {"y": batch.stack("x") + 1, "n": [np.array([1], np.int64)] * len(batch)}

    a, b, c, d = (bench.handle(n, n, n, n) for n in (1, 2, 3, 4))
    del c  # a gap between the rows
    outcome = bench.run(Stage(returns), bench.order(1, a), bench.order(2, d), bench.order(3, b))
    for notice in outcome.notices:
        before, *own = traces_in(notice.trace)
        assert before == Trace(0, 1, 2, 3, 4)
        # Gathered, since one row lies apart: 16 B. Returned: 16 B of y and 8 B of n.
        # None says when it began, so that none has an age.
        assert own == [Trace(INDEX, 7_000, 1_000, 3, 16 + 16 + 8, 0, own[0].began)]
    # One batch begins once, whichever row tells of it.
    assert len({traces_in(notice.trace)[-1].began for notice in outcome.notices} - {0}) == 1
    assert bench.copies == (
        Copied(copies.INPUT, "x", GATHERED, 3 * 16, 1),
        Copied(OUTPUT, "y", RETURNED, 3 * 16, 1),
        Copied(OUTPUT, "n", RETURNED, 3 * 8, 1),
    )


def test_copies_add_up_over_batches_also_over_those_that_failed(bench: Bench) -> None:
    def gathers(batch: Batch) -> None:
        batch.stack("x")
        for row in range(len(batch)):
            batch.out(row, "y")[...] = 0
            batch.out(row, "n", (1,))[...] = 0
        if len(batch) == 3:
            raise BadInput("one of three")

    def apart() -> list[Waiting]:
        a, b, _, c = (bench.handle(n, n, n, n) for n in (1, 2, 3, 4))
        return [bench.order(1, a), bench.order(2, b), bench.order(3, c)]

    execution = Execution(bench.plan, INDEX, BASE, Stage(gathers), bench.table, clock=bench.clock)
    rows = apart()
    execution.run(rows)  # gathered, then each row alone, which is a view
    assert execution.copies == (Copied(copies.INPUT, "x", GATHERED, 48, 1),)
    execution.run([rows[0], rows[2]])
    execution.run(rows[:2])
    # A pair is a view at whatever distance: nothing more was gathered.
    assert execution.copies == (Copied(copies.INPUT, "x", GATHERED, 48, 1),)
    execution.run(rows)
    assert execution.copies == (Copied(copies.INPUT, "x", GATHERED, 96, 2),)
    report = WorkerReport(5, INDEX, 4, 9, (0, 0, 4, 0, 0), 0, execution.copies)
    assert decode(encode(report)) == report


def test_rows_side_by_side_are_one_view_in_whatever_order_they_came(bench: Bench) -> None:
    def looks(batch: Batch) -> dict[str, Any]:
        assert batch.stack("x")[:, 0].tolist() == [1, 2, 3]
        return {"y": list(batch.rows("x")), "n": [np.array([1], np.int64)] * len(batch)}

    a, b, c = (bench.handle(n, n, n, n) for n in (1, 2, 3))
    outcome = bench.run(Stage(looks), bench.order(1, c), bench.order(2, a), bench.order(3, b))
    # Nothing gathered; returned: 16 B of y and 8 B of n. And each row's own answer.
    assert {traces_in(notice.trace)[1].copied for notice in outcome.notices} == {16 + 8}
    assert [notice.code for notice in outcome.notices] == [OK] * 3


def test_a_stage_without_bytes_of_its_own_answers_without_handles(bench: Bench) -> None:
    stage = Stage(lambda batch: None)
    stage.outputs = ()
    plan = bench.plan
    bench.plan = StagePlan(
        name="relay", use="m:C", options={}, inputs=plan.inputs, edges=plan.edges, after=(), outputs=(),
        fields=(), batch=plan.batch, credits=8, workers=plan.workers,
    )  # fmt: skip
    outcome = bench.run(stage, bench.order(1, bench.handle(1, 1, 1, 1), ROUTE))
    assert [(notice.code, notice.outputs) for notice in outcome.late] == [(OK, ())]
    assert outcome.forwards[8][0].hop.inputs == ()


class LaterStage(Stage):
    """Computes in `done`, once `ready`."""

    ready = False

    def start(self, batch: Batch) -> Batch:
        return batch

    def done(self, token: Batch) -> bool:
        if self.ready:
            self.process(token)
        return self.ready


def test_a_batch_that_was_started_is_settled_when_it_is_over(bench: Bench) -> None:
    stage = LaterStage(fill)
    execution = Execution(bench.plan, INDEX, BASE, stage, bench.table, clock=bench.clock)
    rows = [bench.order(1, bench.handle(1, 2, 3, 4)), bench.order(2, bench.handle(5, 6, 7, 8))]
    outcome, flight = execution.start(rows)
    assert flight is not None
    assert (outcome.notices, sorted(flight.requests)) == ([], [1, 2])
    assert execution.finish(flight) is None
    stage.ready = True
    finished = execution.finish(flight)
    assert finished is not None
    assert {notice.request: bench.read(notice)["n"] for notice in finished.notices} == {1: [10], 2: [26]}


def test_after_an_error_the_rows_of_a_started_batch_run_alone(bench: Bench) -> None:
    stage = LaterStage(refuse_negative)
    stage.ready = True
    execution = Execution(bench.plan, INDEX, BASE, stage, bench.table, clock=bench.clock)
    _, flight = execution.start([bench.order(1, bench.handle(1, 2, 3, 4)), bench.order(2, bench.handle(-1, 0, 0, 0))])
    assert flight is not None
    finished = execution.finish(flight)
    assert finished is not None
    assert {notice.request: notice.code for notice in finished.notices} == {1: OK, 2: "BadInput"}
    assert stage.batches == [2, 1, 1]


def test_a_batch_of_which_nothing_is_left_is_never_started(bench: Bench) -> None:
    execution = Execution(bench.plan, INDEX, BASE, LaterStage(fill), bench.table, clock=bench.clock)
    outcome, flight = execution.start([bench.order(1, bench.handle(1, 2, 3, 4), deadline=1)])
    assert flight is None
    assert [notice.code for notice in outcome.notices] == ["DeadlineExceeded"]
