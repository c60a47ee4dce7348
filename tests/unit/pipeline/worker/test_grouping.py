from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.graph.plan import BatchPlan, Edge, Plan, StagePlan
from pipeline.graph.slots import fields_of
from pipeline.wire.messages import MISSING, Hop, Order
from pipeline.worker.grouping import batcher_of, form_of, place_of
from shm.handle import TensorHandle
from stages.spec import TensorSpec

PAGE = TensorSpec("page", "uint8", ("H", "W", 3), {"H": 96, "W": 96})
THUMB = TensorSpec("thumb", "uint8", (8, 8, 3))
NOTE = TensorSpec.json("note", 64)
NAMES = TensorSpec("names", "bytes", ("n",), {"n": 4, "bytes": 64})
LINES = TensorSpec("lines", "float32", (4, "W"), {"W": 32}, many=5)
SCORE = TensorSpec("score", "float32", (2,))


def plan_of(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec] = (SCORE,), *, source: Sequence[TensorSpec] | None = None,
    ragged: bool = False, gather: bool = True, size: int = 4, pad: dict[str, int] | None = None,
) -> Plan:  # fmt: skip
    """A stage behind another one that gives its inputs."""
    given = tuple(source or inputs)

    def stage(name: str, ins: tuple[TensorSpec, ...], outs: tuple[TensorSpec, ...], batch: BatchPlan) -> StagePlan:
        edges = tuple(Edge("first", spec.name) for spec in ins)
        return StagePlan(
            name=name, use="m:C", options={}, inputs=ins, edges=edges, after=(), outputs=outs, fields=fields_of(outs),
            batch=batch, credits=8, workers=(), ragged=ragged, pad=pad or {},
        )  # fmt: skip

    stages = (stage("first", (), given, BatchPlan()), stage("second", tuple(inputs), tuple(outputs), BatchPlan(size, 5.0, gather)))
    return Plan("p", "", "", (), stages, (), ())


def order(*inputs: TensorHandle | int, lengths: tuple[int, ...] = (), slot: int = 0, request: int = 0) -> Order:
    return Order(request, 0, 0, 0, Hop(1, 2, 9, slot, 1, False, inputs, lengths), b"", "")


def handle(slot: int, *shape: int, offset: int = 0, dtype: str = "uint8") -> TensorHandle:
    return TensorHandle(7, slot, 1, offset, dtype, shape)


@pytest.mark.parametrize(
    "plan",
    [
        plan_of([THUMB]),
        plan_of([THUMB, NOTE]),
        plan_of([THUMB, NAMES]),
        plan_of([LINES]),
        plan_of([PAGE], ragged=True),
        plan_of([PAGE], size=1),
    ],
    ids=["static", "documents", "elements of bytes", "lists", "ragged", "batches of one"],
)
def test_where_shapes_cannot_differ_or_may_differ_there_is_no_form(plan: Plan) -> None:
    assert form_of(plan.stages[1]) is None


def test_orders_of_equal_shapes_are_of_one_form() -> None:
    form = form_of(plan_of([NOTE, THUMB, PAGE]).stages[1])
    assert form is not None

    def of(note: int, *page: int) -> object:
        return form(order(handle(0, note, dtype="json"), handle(0, 8, 8, 3), handle(0, *page)))

    assert of(5, 30, 20, 3) == of(60, 30, 20, 3)
    assert of(5, 30, 20, 3) != of(5, 20, 30, 3)


def test_padding_makes_shapes_equal_that_round_up_to_the_same() -> None:
    form = form_of(plan_of([PAGE], pad={"W": 32}).stages[1])
    assert form is not None
    assert form(order(handle(0, 30, 33, 3))) == form(order(handle(1, 30, 64, 3)))
    assert form(order(handle(0, 30, 33, 3))) != form(order(handle(1, 31, 64, 3)))
    assert form(order(handle(0, 30, 32, 3))) != form(order(handle(1, 30, 33, 3)))


def test_a_missing_input_is_a_form_of_its_own() -> None:
    optional = TensorSpec("thumb", "uint8", (8, 8, 3), optional=True)
    form = form_of(plan_of([optional], source=[THUMB]).stages[1])
    assert form is not None
    assert form(order(MISSING)) == form(order(MISSING, slot=3))
    assert form(order(MISSING)) != form(order(handle(0, 8, 8, 3)))


def test_an_input_behind_one_of_many_is_found() -> None:
    form = form_of(plan_of([LINES, PAGE]).stages[1])
    assert form is not None
    lines = [handle(0, 4, 9, dtype="float32"), handle(0, 4, 8, dtype="float32")]
    assert form(order(*lines, handle(1, 5, 6, 3), lengths=(2, -1))) == form(order(handle(1, 5, 6, 3), lengths=(0, -1)))


def test_the_next_slot_of_every_pool_is_the_neighbour() -> None:
    plan = plan_of([THUMB, PAGE])
    place = place_of(plan, plan.stages[1])
    assert place is not None

    def at(thumb: int, page: int, out: int, offset: int = 0) -> Order:
        return order(handle(thumb, 8, 8, 3, offset=offset), handle(page, 9, 9, 3), slot=out)

    here = place(at(3, 5, 1))
    assert here.next == place(at(4, 6, 2)).start
    for other in (at(4, 6, 1), at(4, 7, 2), at(2, 4, 0), at(4, 6, 2, offset=64)):
        assert here.next != place(other).start


def test_elements_of_one_slot_are_neighbours_where_one_follows_the_other() -> None:
    line = TensorSpec("lines", "float32", (4, "W"), {"W": 32})
    plan = plan_of([line], source=[LINES])
    place = place_of(plan, plan.stages[1])
    assert place is not None
    shapes = [(4, 5), (4, 5), (4, 7)]
    offsets = LINES.offsets(shapes)
    places = [
        place(order(handle(0, *shape, offset=offset, dtype="float32"), slot=slot))
        for slot, (shape, offset) in enumerate(zip(shapes, offsets))
    ]
    assert places[0].next == places[1].start
    assert places[1].next == places[2].start
    assert places[0].next != places[2].start


def test_where_no_row_is_part_of_an_array_there_is_no_place() -> None:
    ragged = plan_of([THUMB], ragged=True)
    for plan in (plan_of([NOTE], [NOTE]), plan_of([NAMES], [NAMES]), plan_of([LINES], [LINES]), plan_of([THUMB], size=1), ragged):
        assert place_of(plan, plan.stages[1]) is None


def test_rows_without_an_optional_input_are_neighbours_by_what_they_have() -> None:
    optional = TensorSpec("thumb", "uint8", (8, 8, 3), optional=True)
    plan = plan_of([optional], source=[THUMB])
    place = place_of(plan, plan.stages[1])
    assert place is not None
    assert place(order(MISSING, slot=1)).next == place(order(MISSING, slot=2)).start


def test_the_inbox_of_a_stage_groups_as_its_plan_says() -> None:
    batcher = batcher_of(plan_of([PAGE], gather=False, size=2), 1)
    for request, (slot, width) in enumerate([(0, 9), (5, 9), (1, 9), (6, 8)]):
        batcher.add(order(handle(slot, 9, width, 3), slot=slot, request=request), request)
    first = batcher.take(10)
    assert first is not None
    assert ([row.order.request for row in first.rows], first.reason) == ([0, 2], "full")
    assert batcher.take(10) is None
    assert batcher.wake_at() == 1 + 5_000_000
