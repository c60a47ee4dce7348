"""An order as the worker of its next hop gets it."""

from __future__ import annotations

from pipeline.graph.compiled import CompiledPlan
from pipeline.wire.messages import MISSING, Hop, Known, Order, SlotRef
from pipeline.wire.route import packed
from pipeline.worker.onward import Onward
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.graphs import make_plan

SLOT = SlotRef(9, 3, 1)
MADE = TensorHandle(7, 0, 1, 0, "uint8", (16,))
GIVEN = TensorHandle(8, 0, 1, 0, "uint8", (16,))


def order(route: bytes, known: tuple[Known, ...] = ()) -> Order:
    return Order(5, 2, 77, 4, Hop(0, 0, 7, 0, 1, False, (GIVEN,), ()), b"", "00001-5", 6, 8, 9, "trace", route, known)


def onward(graph: str, stage: int = 0) -> tuple[CompiledPlan, Onward]:
    compiled = CompiledPlan.of(make_plan(graph))
    return compiled, Onward(compiled.stages, compiled.stages[stage].base, compiled.stages[stage].fields)


def test_the_next_hop_reads_what_was_made_and_the_rest_of_the_route_stays_as_it_is() -> None:
    compiled, way = onward("chain")
    rest = packed(2, 0, 12, *SLOT)
    found = way.order(order(packed(1, 0, 11, *SLOT) + rest), (MADE,), b"so far")
    assert found.hop == Hop(1, 11, *SLOT, compiled.stages[1].notifies_at_once, (MADE,), ())
    assert (found.route, found.known, found.trace) == (rest, (), b"so far")
    # What concerns the request stays; only the group is over, since the request has survived the stage.
    assert (found.request, found.attempt, found.deadline, found.group) == (5, 2, 77, 0)
    assert (found.label, found.stream, found.sequence, found.started, found.traceparent) == ("00001-5", 6, 8, 9, "trace")


def test_what_a_later_stage_reads_goes_along() -> None:
    compiled, _ = onward("early outputs")
    for stage in compiled.stages:
        behind = [other for other in compiled.stages if other.index > stage.index]
        own = set(range(stage.base, stage.base + stage.fields))
        far = [other for other in behind[1:] if own & set(other.sources)]
        if not far:
            continue
        outputs = tuple([MADE] * stage.fields)
        way = Onward(compiled.stages, stage.base, stage.fields)
        route = packed(behind[0].index, 0, 11, *SLOT) + packed(far[0].index, 0, 12, *SLOT)
        found = way.order(order(route), outputs, b"")
        assert {known.tensor for known in found.known} >= own & set(far[0].sources)
        return
    raise AssertionError("no stage of this graph is read by one that is not the next")


def test_what_is_known_is_found_and_what_is_missing_is_said_to_be() -> None:
    compiled, way = onward("chain")
    source = compiled.stages[2].sources[0]
    known = (Known(source, GIVEN),)
    assert way.order(order(packed(2, 0, 11, *SLOT), known), (), b"").hop.inputs == (GIVEN,)
    assert way.order(order(packed(2, 1, 11, *SLOT), known), (), b"").hop.inputs == (MISSING,)
    # Neither made nor known: the number of the tensor, which its worker refuses.
    assert way.order(order(packed(2, 0, 11, *SLOT)), (), b"").hop.inputs == (source,)
