"""Orders of several rows: computed as rows of a batch, settled as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.graph.plan import BatchPlan
from pipeline.graph.slots import fields_of, places_of, slot_bytes
from pipeline.wire.messages import OK, Hop, Notice, Order
from pipeline.wire.traces import traces_in
from pipeline.worker.candidates import Waiting
from pipeline.worker.execution import Execution
from pipeline.worker.joint import rows_of
from shm.errors import HandleRefused
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Batch
from tests.unit.pipeline.worker.test_execution import BASE, INDEX, NOW, Bench, Stage

OUTPUTS = (TensorSpec("y", "int32", (4,)), TensorSpec("s", "int64", ()))
ROWS = 6


def fill(batch: Batch) -> None:
    """y = x + 1 and s = sum(x), all rows at once."""
    x = batch.stack("x")
    batch.stack_out("y")[...] = x + 1
    for row, each in enumerate(batch.rows("x")):
        batch.out(row, "s")[...] = each.sum()


def refuse_negative(batch: Batch) -> None:
    for row, each in enumerate(batch.rows("x")):
        if each[0] < 0:
            batch.fail(row, BadInput(f"{each[0]} is negative"))
    fill(batch)


def raise_at_negative(batch: Batch) -> None:
    if any(each[0] < 0 for each in batch.rows("x")):
        raise ValueError("a negative one")
    fill(batch)


class Several(Bench):
    """A bench whose slots hold `ROWS` rows."""

    def __init__(self, max_batch: int = 8) -> None:
        super().__init__()
        fields = fields_of(OUTPUTS)
        self.plan = replace(self.plan, outputs=OUTPUTS, fields=fields, batch=BatchPlan(max_batch))
        for name, size in (("ins", 16 * ROWS), ("outs", slot_bytes(fields, ROWS))):
            segment = create("local", SegmentSpec("run", name, size, 8))
            self.segments.append(segment)
            self.table.add(segment)
            self.pools.append(SlotPool(segment))

    def several(self, request: int, *firsts: int, group: int = 0, rows: int = 0) -> Waiting:
        """An order of as many rows; row n is `firsts[n]` and 1, 2, 3."""
        handle = self._handle(2, (len(firsts), 4))
        self.table.view(handle, writable=True)[...] = [[first, 1, 2, 3] for first in firsts]
        slot, generation = self.pools[3].loan()
        hop = Hop(INDEX, 5, self.segments[3].number, slot, generation, False, (handle,), ())
        order = Order(request, 2, 0, group, hop, b"", f"00abc-{request}", rows=rows or len(firsts))
        return Waiting(order, NOW)

    def _handle(self, pool: int, shape: tuple[int, ...]) -> TensorHandle:
        slot, generation = self.pools[pool].loan()
        return TensorHandle(self.segments[pool].number, slot, generation, 0, "int32", shape)

    def arrays(self, notice: Notice) -> list[np.ndarray[Any, Any]]:
        assert (notice.code, notice.message) == (OK, "")
        return [self.table.view(handle) for handle in notice.outputs]


@pytest.fixture
def several() -> Iterator[Callable[..., Several]]:
    made: list[Several] = []

    def make(**more: int) -> Several:
        made.append(Several(**more))
        return made[-1]

    yield make
    for each in made:
        each.table.close()
        for segment in each.segments:
            segment.unlink()


def test_an_order_of_several_rows_is_computed_in_one_batch_and_has_one_notice(several: Callable[..., Several]) -> None:
    bench, stage = several(), Stage(fill)
    (notice,) = bench.run(stage, bench.several(7, 10, 20, 30)).notices
    assert isinstance(notice, Notice)
    y, s = bench.arrays(notice)
    assert (stage.batches, notice.request) == ([3], 7)
    assert y.tolist() == [[11, 2, 3, 4], [21, 2, 3, 4], [31, 2, 3, 4]]
    assert s.tolist() == [16, 26, 36]
    # The rows lie one after the other, so the stage has had them as one array.
    assert bench.copies == ()
    (trace,) = traces_in(notice.trace)
    assert trace.batch == 3


def test_orders_of_several_rows_and_of_one_share_a_batch(several: Callable[..., Several]) -> None:
    bench, stage = several(), Stage(fill)
    alone = bench.order(8, bench.handle(5, 1, 2, 3))
    outcome = bench.run(stage, bench.several(7, 10, 20), alone, bench.several(9, 1, 2, 3))
    found = {notice.request: bench.arrays(notice)[1].tolist() for notice in outcome.notices}  # type: ignore[arg-type]
    assert stage.batches == [6]
    assert found == {7: [16, 26], 8: 11, 9: [7, 8, 9]}


@pytest.mark.parametrize("process", [refuse_negative, raise_at_negative])
def test_a_row_that_fails_fails_its_order_which_names_it_and_no_other_order(
    several: Callable[..., Several], process: Callable[[Batch], None]
) -> None:
    bench = several()
    outcome = bench.run(Stage(process), bench.several(7, 1, -2, -3), bench.several(8, 1, 2))
    told = {notice.request: (notice.code, notice.message) for notice in outcome.notices}  # type: ignore[union-attr]
    assert told[8] == (OK, "")
    code, message = told[7]
    assert code == ("BadInput" if process is refuse_negative else "StageFailed")
    assert message.startswith("row 1 of 3: ")


def test_an_order_is_cut_only_if_it_has_more_rows_than_a_batch(several: Callable[..., Several]) -> None:
    bench, stage = several(max_batch=4), Stage(fill)
    (notice,) = bench.run(stage, bench.several(7, 1, 2, 3, 4, 5, 6)).notices
    assert stage.batches == [4, 2]
    assert bench.arrays(notice)[1].tolist() == [7, 8, 9, 10, 11, 12]  # type: ignore[arg-type]
    (notice,) = bench.run(stage, bench.several(8, 1, 2, 3, 4)).notices
    assert stage.batches == [4, 2, 4]


def test_the_rows_of_a_suspect_that_is_alone_run_one_by_one_and_each_is_told_before(
    several: Callable[..., Several],
) -> None:
    bench, told = several(), []
    stage = Stage(fill)
    execution = Execution(bench.plan, INDEX, BASE, stage, bench.table, clock=bench.clock, piece=told.append)
    execution.run([bench.several(7, 1, 2, 3, group=5)])
    assert (stage.batches, told) == ([1, 1, 1], [0, 1, 2])
    # Two suspects of one group are a half of what has killed: which of them it was comes first.
    execution.run([bench.several(8, 1, 2, group=6), bench.several(9, 3, 4, group=6)])
    assert (stage.batches, told) == ([1, 1, 1, 4], [0, 1, 2])


class Flying(Stage):
    """Begins a batch, which is over when it is asked for the second time."""

    def start(self, batch: Batch) -> list[Any]:
        self.batches.append(len(batch))
        return [batch, 2]

    def done(self, token: list[Any]) -> bool:
        token[1] -= 1
        if not token[1]:
            self._process(token[0])
        return not token[1]


def test_a_stage_that_begins_batches_gets_the_pieces_of_an_order_one_after_the_other(
    several: Callable[..., Several],
) -> None:
    bench, stage = several(max_batch=4), Flying(fill)
    execution = Execution(bench.plan, INDEX, BASE, stage, bench.table, clock=bench.clock)
    outcome, flight = execution.start([bench.several(7, 1, 2, 3, 4, 5, 6)])
    assert flight is not None
    assert (flight.requests, flight.size, outcome.notices) == ([7], 6, [])
    steps = 0
    while (over := execution.finish(flight)) is None:
        steps += 1
        assert steps < 10
    (notice,) = over.notices
    assert stage.batches == [4, 2]
    assert bench.arrays(notice)[1].tolist() == [7, 8, 9, 10, 11, 12]  # type: ignore[arg-type]


def test_a_tensor_of_another_number_of_rows_fails_its_order_alone(several: Callable[..., Several]) -> None:
    bench = several()
    outcome = bench.run(Stage(fill), bench.several(7, 1, 2, rows=3), bench.several(8, 1, 2))
    told = {notice.request: notice.code for notice in outcome.notices}  # type: ignore[union-attr]
    assert told == {7: "StageFailed", 8: OK}
    assert bench.refused == 1
    with pytest.raises(HandleRefused, match="expected a tensor of 3 rows"):
        rows_of(TensorHandle(1, 2, 3, 0, "int32", (2, 4)), 3)


def test_the_rows_of_each_output_lie_one_after_the_other_behind_those_of_the_one_before() -> None:
    fields = fields_of(OUTPUTS)
    assert (places_of(fields, 1), slot_bytes(fields, 1)) == ([0, 64], 128)
    assert (places_of(fields, 6), slot_bytes(fields, 6)) == ([0, 128], 192)
