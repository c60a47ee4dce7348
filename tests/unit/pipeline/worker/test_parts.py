"""Stages whose answers come in parts: what an execution says of each part, and of their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.wire.messages import OK, Notice
from pipeline.wire.traces import traces_in
from pipeline.worker.abandonment import all_wanted
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.flight import Outcome
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from stages.spec import TensorSpec
from stages.stage import Batch
from tests.unit.pipeline.worker.test_execution import BASE, INDEX, INPUT, OUTPUTS, Bench

Parts = Callable[[Batch], Iterator[Any]]


class Streaming:
    """Yields what the test says."""

    def __init__(self, parts: Parts) -> None:
        self.inputs: Sequence[TensorSpec] = (INPUT,)
        self.outputs: Sequence[TensorSpec] = OUTPUTS
        self._parts = parts

    def process(self, batch: Batch) -> Iterator[Any]:
        yield from self._parts(batch)


@pytest.fixture
def bench() -> Bench:
    """With room for two parts in a slot."""
    made = Bench()
    segment = create("local", SegmentSpec("run", "parts", 256, 8))
    made.table.add(segment)
    made.segments[1], made.pools[1] = segment, SlotPool(segment)
    return made


def run(
    bench: Bench,
    parts: Parts,
    *rows: Waiting,
    tell: Callable[[Sequence[Notice]], None] | None = None,
    unwanted: Callable[[Sequence[Waiting]], Sequence[int]] = all_wanted,
) -> Outcome:
    stage = Streaming(parts)
    return Execution(
        bench.plan, INDEX, BASE, stage, bench.table, clock=bench.clock, tell=tell, unwanted=unwanted
    ).run(rows)


def counted(batch: Batch, most: int = 2) -> Iterator[Any]:
    """Part k of a row: y = x + k, n = [k]; a row has as many parts as its first number says."""
    for k in range(most):
        for row, x in enumerate(batch.rows("x")):
            if k < x[0]:
                batch.out(row, "y")[...] = x + k
                batch.write(row, "n", np.array([k], np.int64))
        yield


def ends_of(outcome: Outcome) -> dict[int, tuple[str, str]]:
    return {notice.request: (notice.code, notice.message) for notice in outcome.notices if notice.last}


def test_each_part_is_a_notice_and_the_last_notice_brings_no_outputs(bench: Bench) -> None:
    rows = [bench.order(7, bench.handle(1, 0, 0, 0)), bench.order(8, bench.handle(2, 0, 0, 0))]
    outcome = run(bench, counted, *rows)
    assert [(notice.request, notice.last) for notice in outcome.notices] == [
        (7, False), (8, False), (8, False), (7, True), (8, True),
    ]  # fmt: skip
    found = [bench.read(notice) for notice in outcome.notices if not notice.last]
    assert found == [{"y": [1, 0, 0, 0], "n": [0]}, {"y": [2, 0, 0, 0], "n": [0]}, {"y": [3, 1, 1, 1], "n": [1]}]
    ends = [notice for notice in outcome.notices if notice.last]
    assert [(end.outputs, len(traces_in(end.trace))) for end in ends] == [((), 2), ((), 2)]
    assert [notice.trace for notice in outcome.notices if not notice.last] == [b"", b"", b""]


def test_parts_lie_one_after_the_other_so_that_a_later_one_leaves_an_earlier_one_as_it_is(bench: Bench) -> None:
    outcome = run(bench, counted, bench.order(7, bench.handle(2, 0, 0, 0)))
    places = [(handle.offset, handle.nbytes) for notice in outcome.notices for handle in notice.outputs]
    assert places == [(0, 16), (64, 8), (128, 16), (192, 8)]


def test_parts_are_told_of_while_the_batch_is_still_computed(bench: Bench) -> None:
    told: list[int] = []

    def parts(batch: Batch) -> Iterator[Any]:
        for part in counted(batch):
            yield part
            assert told, "the part was yielded, and the scheduler has not heard of it"

    outcome = run(bench, parts, bench.order(7, bench.handle(2, 0, 0, 0)), tell=lambda notices: told.append(len(notices)))
    assert told == [1, 1]
    assert [(notice.request, notice.code, notice.last) for notice in outcome.notices] == [(7, OK, True)]


def test_rows_that_had_a_part_fail_with_their_batch_and_the_others_run_again_alone(bench: Bench) -> None:
    def parts(batch: Batch) -> Iterator[Any]:
        yield from counted(batch, 1)
        if len(batch) > 1:
            raise ValueError("lost it")

    rows = [bench.order(7, bench.handle(1, 0, 0, 0)), bench.order(8, bench.handle(0, 0, 0, 0))]
    ends = ends_of(run(bench, parts, *rows))
    assert ends[8] == (OK, "")
    assert ends[7][0] == "StageFailed"
    assert "lost it" in ends[7][1]


def test_a_row_that_the_stage_fails_has_no_further_part_and_ends_with_its_error(bench: Bench) -> None:
    def parts(batch: Batch) -> Iterator[Any]:
        yield from counted(batch, 1)
        batch.fail(0, "no more")
        yield from counted(batch)

    outcome = run(bench, parts, bench.order(7, bench.handle(2, 0, 0, 0)))
    assert [(notice.code, notice.last) for notice in outcome.notices] == [(OK, False), ("BadInput", True)]


def test_a_stage_that_never_ends_is_left_when_all_rows_of_its_batch_have_failed(bench: Bench) -> None:
    left: list[str] = []

    def parts(batch: Batch) -> Iterator[Any]:
        try:
            for _ in range(1000):
                yield {"y": [x.astype(np.int64) for x in batch.rows("x")], "n": [[1]] * len(batch)}
        finally:
            left.append("left")
        left.append("not left")

    outcome = run(bench, parts, bench.order(7, bench.handle(9, 0, 0, 0)))
    assert left == ["left"]
    assert [(notice.code, notice.last) for notice in outcome.notices] == [(OK, False), (OK, False), ("StageFailed", True)]


def test_a_request_whose_parts_do_not_fit_its_slot_fails_alone_and_says_what_to_raise(bench: Bench) -> None:
    rows = [bench.order(7, bench.handle(9, 0, 0, 0)), bench.order(8, bench.handle(2, 0, 0, 0))]
    outcome = run(bench, lambda batch: counted(batch, 9), *rows)
    assert [notice.request for notice in outcome.notices if not notice.last] == [7, 8, 7, 8]
    assert ends_of(outcome)[8] == (OK, "")
    code, message = ends_of(outcome)[7]
    assert code == "StageFailed"
    assert "the parts of one answer lie in one slot, which has" in message
    assert "raise the output's `max`" in message


def test_a_row_that_is_not_wanted_any_more_has_no_further_part_and_the_others_go_on(bench: Bench) -> None:
    rows = [bench.order(7, bench.handle(2, 0, 0, 0)), bench.order(8, bench.handle(2, 0, 0, 0))]
    outcome = run(bench, counted, *rows, unwanted=lambda batch: [0])
    assert [(notice.request, notice.code, notice.last) for notice in outcome.notices] == [
        (7, OK, False), (8, OK, False), (8, OK, False), (7, "Cancelled", True), (8, OK, True),
    ]  # fmt: skip


def test_a_stage_without_an_end_is_left_when_no_row_is_wanted_any_more(bench: Bench) -> None:
    left: list[str] = []

    def parts(batch: Batch) -> Iterator[Any]:
        try:
            while True:
                yield {}
        finally:
            left.append("left")

    answers = iter([(), (0,), (0, 1)])
    rows = [bench.order(7, bench.handle(9, 0, 0, 0)), bench.order(8, bench.handle(9, 0, 0, 0))]
    outcome = run(bench, parts, *rows, unwanted=lambda batch: next(answers))
    assert left == ["left"]
    assert ends_of(outcome) == {7: ("Cancelled", "not wanted any more"), 8: ("Cancelled", "not wanted any more")}
