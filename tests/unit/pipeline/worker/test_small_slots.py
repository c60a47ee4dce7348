"""Execution with slots of several sizes: what fits, where it lies, and what the execution says if something does
not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.graph.plan import BatchPlan, Edge, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of, slot_bytes
from pipeline.wire.messages import OK, TOO_SMALL, Hop, Notice, Order
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from shm.view import SegmentTable
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Batch

SIZE = TensorSpec("size", "int64", ())
A = TensorSpec("a", "uint8", ("N",), {"N": 1000})
B = TensorSpec("b", "int32", (4,))
MANY = TensorSpec("many", "uint8", ("N",), {"N": 100}, many=9)
ONE, THREE, ALL = 64, 192, slot_bytes(fields_of([A, B, MANY]))

Process = Callable[[Batch], Any]


def fill(batch: Batch) -> None:
    """So many bytes of `a`, the size in `b`, and a child of `many` for every 10."""
    for row, size in enumerate(batch.rows("size")):
        n = int(size)
        for child in batch.out_many(row, "many", [(10,)] * (n // 10)):
            child[...] = n
        batch.out(row, "b")[...] = n
        batch.out(row, "a", (n,))[...] = n


class Stage:
    def __init__(self, process: Process) -> None:
        self.inputs = (SIZE,)
        self.outputs = (A, B, MANY)
        self.batches: list[int] = []
        self._process = process

    def process(self, batch: Batch) -> Any:
        self.batches.append(len(batch))
        return self._process(batch)


class Flying(Stage):
    """A stage that begins a batch, and is asked later whether it is over."""

    concurrency = 2

    def start(self, batch: Batch) -> None:
        self.process(batch)

    def done(self, token: None) -> bool:
        return True


class Bench:
    """A pool of inputs, and pools of slots of 64 bytes, of 192, and of the largest that is needed."""

    def __init__(self) -> None:
        self.table = SegmentTable()
        sizes = {"in": 64, "small": ONE, "middle": THREE, "large": ALL}
        self.segments = {name: create("local", SegmentSpec("run", name, size, 8)) for name, size in sizes.items()}
        for segment in self.segments.values():
            self.table.add(segment)
        self.pools = {name: SlotPool(segment) for name, segment in self.segments.items()}
        self.plan = StagePlan(
            name="middle", use="m:C", options={}, inputs=(SIZE,), edges=(Edge("ingress", "size"),), after=(),
            outputs=(A, B, MANY), fields=fields_of([A, B, MANY]), batch=BatchPlan(4), credits=8,
            workers=(WorkerPlan("middle", 0),),
        )  # fmt: skip

    def order(self, request: int, size: int, pool: str) -> Waiting:
        slot, generation = self.pools["in"].loan()
        given = TensorHandle(self.segments["in"].number, slot, generation, 0, "int64", ())
        self.table.view(given, writable=True)[...] = size
        slot, generation = self.pools[pool].loan()
        hop = Hop(0, 5, self.segments[pool].number, slot, generation, False, (given,), ())
        return Waiting(Order(request, 1, 0, 0, hop, b"", ""), 0)

    def run(self, stage: Stage, *rows: Waiting) -> dict[int, Notice]:
        execution = Execution(self.plan, 0, 0, stage, self.table, sized=True)
        if not isinstance(stage, Flying):
            return {notice.request: notice for notice in execution.run(rows).notices}
        outcome, flight = execution.start(rows)
        notices = outcome.notices
        if flight is not None and (landed := execution.finish(flight)) is not None:
            notices = notices + landed.notices
        return {notice.request: notice for notice in notices}

    def check(self, notice: Notice, size: int) -> None:
        """All outputs are right, so none of them overlaps another."""
        assert (notice.code, notice.message) == (OK, "")
        a, b = (self.table.view(handle) for handle in notice.outputs)
        assert a.tolist() == [size] * size
        assert b.tolist() == [size] * 4
        (many,) = notice.children
        assert [self.table.view(handle).tolist() for handle in many] == [[size] * 10] * (size // 10)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.table.close()
    for segment in made.segments.values():
        segment.unlink()


def test_what_fits_a_smaller_slot_lies_there_as_it_was_asked_for(bench: Bench) -> None:
    notice = bench.run(Stage(fill), bench.order(1, 10, "middle"))[1]
    bench.check(notice, 10)
    assert [handle.offset for handle in (*notice.children[0], notice.outputs[1], notice.outputs[0])] == [0, 64, 128]


@pytest.mark.parametrize("pool", ["middle", "large"])
def test_a_notice_says_what_went_in_and_what_came_out_of_it(bench: Bench, pool: str) -> None:
    notice = bench.run(Stage(fill), bench.order(1, 13, pool))[1]
    assert (notice.bytes_in, notice.bytes_out) == (8, 3 * 64)


def test_in_the_largest_slot_every_output_has_its_place(bench: Bench) -> None:
    notice = bench.run(Stage(fill), bench.order(1, 10, "large"))[1]
    bench.check(notice, 10)
    offsets = {field.spec.name: field.offset for field in bench.plan.fields}
    assert [handle.offset for handle in notice.outputs] == [offsets["a"], offsets["b"]]
    assert notice.children[0][0].offset == offsets["many"]


def test_what_does_not_fit_is_said_with_the_bytes_it_takes(bench: Bench) -> None:
    notices = bench.run(Stage(fill), bench.order(1, 65, "middle"), bench.order(2, 30, "small"))
    # Six children take 384 bytes; three take 192.
    assert {n: (notice.code, notice.bytes_out) for n, notice in notices.items()} == {1: (TOO_SMALL, 384), 2: (TOO_SMALL, 192)}
    assert [notice.message for notice in notices.values()] == ["", ""]


def test_the_others_of_a_batch_go_on_together(bench: Bench) -> None:
    stage = Stage(fill)
    sizes = {1: (10, "middle"), 2: (90, "small"), 3: (90, "large"), 4: (5, "middle")}
    notices = bench.run(stage, *(bench.order(n, *each) for n, each in sizes.items()))
    assert notices.pop(2).code == TOO_SMALL
    for number, notice in notices.items():
        bench.check(notice, sizes[number][0])
    assert stage.batches == [4, 3]


def swallow(batch: Batch) -> None:
    try:
        fill(batch)
    except Exception:
        for row in range(len(batch)):
            batch.out_many(row, "many", [])
            batch.out(row, "b")
            batch.out(row, "a", (0,))


def blame(batch: Batch) -> None:
    try:
        fill(batch)
    except Exception as error:
        raise BadInput("it is the request's fault") from error


def fail(batch: Batch) -> None:
    for row in range(len(batch)):
        try:
            fill(batch)
        except Exception as error:
            batch.fail(row, error)


@pytest.mark.parametrize("process", [fill, swallow, blame, fail])
@pytest.mark.parametrize("kind", [Stage, Flying])
def test_whatever_a_stage_makes_of_it_the_request_is_to_run_again(bench: Bench, kind: type[Stage], process: Process) -> None:
    assert bench.run(kind(process), bench.order(1, 20, "small"))[1].code == TOO_SMALL
    bench.check(bench.run(kind(process), bench.order(1, 20, "large"))[1], 20)


def test_an_output_that_is_asked_for_again_is_where_it_fits(bench: Bench) -> None:
    def often(batch: Batch) -> None:
        fill(batch)
        batch.out(0, "a", (1,))
        fill(batch)

    bench.check(bench.run(Stage(often), bench.order(1, 10, "middle"))[1], 10)


def test_what_is_not_to_spec_is_the_stage_s_fault_in_any_slot(bench: Bench) -> None:
    def too_many(batch: Batch) -> None:
        batch.out_many(0, "many", [(1,)] * 10)

    for pool in ("small", "large"):
        notice = bench.run(Stage(too_many), bench.order(1, 1, pool))[1]
        assert notice.code == "StageFailed"
        assert "at most 9 tensors, found 10" in notice.message


def test_rows_in_slots_side_by_side_are_one_array_also_in_smaller_ones(bench: Bench) -> None:
    stacked: list[bool] = []

    def at_once(batch: Batch) -> None:
        for row in range(len(batch)):
            batch.out_many(row, "many", [])
        out = batch.stack_out("a", (10,))
        stacked.append(out.base is not None)
        out[...] = np.stack(batch.rows("size"))[:, None]
        batch.stack_out("b")[...] = 0

    notices = bench.run(Stage(at_once), *(bench.order(n, n, "middle") for n in range(3)))
    assert stacked == [True]
    for number, notice in notices.items():
        assert bench.table.view(notice.outputs[0]).tolist() == [number] * 10


@pytest.mark.parametrize("kind", [Stage, Flying])
def test_rows_may_be_numbers_of_numpy(bench: Bench, kind: type[Stage]) -> None:
    def process(batch: Batch) -> None:
        sizes = batch.rows("size")
        for row in np.arange(len(batch)):
            batch.out(row, "b")[...] = sizes[row]
            batch.out(row, "a", (np.int64(sizes[row]),))[...] = sizes[row]
            for child in batch.out_many(row, "many", [(10,)] * (int(sizes[row]) // 10)):
                child[...] = sizes[row]

    done = bench.run(kind(process), bench.order(7, 90, "small"), bench.order(8, 10, "middle"), bench.order(9, 20, "large"))
    assert done[7].code == TOO_SMALL
    bench.check(done[8], 10)
    bench.check(done[9], 20)


@pytest.mark.parametrize("kind", [Stage, Flying])
def test_a_row_that_is_counted_from_the_end_fails_the_one_request_and_blames_the_stage(
    bench: Bench, kind: type[Stage]
) -> None:
    def process(batch: Batch) -> None:
        for row, size in enumerate(batch.rows("size")):
            batch.out(row - len(batch) if size == 10 else row, "b")[...] = size
            batch.out(row, "a", (int(size),))[...] = size
            for child in batch.out_many(row, "many", [(10,)] * (int(size) // 10)):
                child[...] = size

    done = bench.run(kind(process), bench.order(8, 10, "middle"), bench.order(9, 20, "large"))
    assert done[8].code == "StageFailed"
    assert "SpecMismatch: row -1: this batch has the rows 0 to 0, 1 in all; give the number" in done[8].message
    bench.check(done[9], 20)
