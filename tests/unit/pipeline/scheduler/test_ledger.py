"""Which request is where, and what a worker has."""

from __future__ import annotations

from pipeline.graph.compiled import CompiledPlan
from pipeline.scheduler.ledger import Request, Worker
from pipeline.wire.messages import MISSING, SlotRef
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.graphs import make_plan


def tensor(number: int) -> TensorHandle:
    return TensorHandle(100 + number, 0, 1, 0, "uint8", (16,))


def request(compiled: CompiledPlan) -> Request:
    return Request(
        1, compiled.scopes[0], client=5, tag=7, ingress=SlotRef(100, 0, 1),
        values=[tensor(0), *[None] * (compiled.tensors - 1)], stages=len(compiled.stages), deadline=9, priority=2,
        submitted=3, label="00005-7 cat.jpg",
    )  # fmt: skip


def test_a_worker_has_a_credit_less_for_each_order_and_gets_it_back_once() -> None:
    worker = Worker(1, 0, 0, 100, credits=1)
    worker.orders[7, 0] = 1
    assert not worker.close(7, 1)
    assert (worker.close(7, 0), worker.close(7, 0), worker.credits) == (True, False, 2)


def test_a_tensor_that_is_to_be_made_is_named_by_its_number() -> None:
    compiled = CompiledPlan.of(make_plan("diamond"))
    found = request(compiled)
    found.values[2] = tensor(2)
    assert found.inputs_of(compiled.stages[3]) == ((tensor(2), 3), ())


def test_what_a_skipped_stage_would_have_made_is_missing() -> None:
    compiled = CompiledPlan.of(make_plan("either or"))
    found = request(compiled)
    found.skipped = compiled.stages[1].bit
    found.values[4] = tensor(4)
    assert found.inputs_of(compiled.stages[3]) == ((MISSING, tensor(4)), ())
    assert found.holds(compiled.stages[3])


def test_a_stage_is_run_where_its_condition_holds() -> None:
    compiled = CompiledPlan.of(make_plan("either or"))
    found = request(compiled)
    assert [found.holds(stage) for stage in compiled.stages] == [True, False, True, True]
    found.conditions = 1 << 2
    assert [found.holds(stage) for stage in compiled.stages] == [True, True, False, True]
    found.skipped = compiled.stages[0].bit
    assert [found.holds(stage) for stage in compiled.stages] == [True, False, False, True]


def test_a_stage_is_open_until_it_is_ordered_or_done_and_only_in_its_own_scope() -> None:
    compiled = CompiledPlan.of(make_plan("fan out"))
    found = request(compiled)
    assert [found.is_open(stage) for stage in compiled.stages] == [True, False, True]
    found.claimed, found.done = 0b001, 0b100
    assert [found.is_open(stage) for stage in compiled.stages] == [False, False, False]


def test_a_child_is_a_request_of_its_parents_client_deadline_and_name() -> None:
    compiled = CompiledPlan.of(make_plan("fan out"))
    parent = request(compiled)
    parent.done = 0b001
    child = parent.child(2, compiled.scopes[1], 3, parent.values)
    parent.children[1] = [child]
    assert (child.client, child.tag, child.deadline, child.priority, child.submitted) == (5, 7, 9, 2, 3)
    assert (child.label, child.done, child.root, child.ingress) == ("00005-7/3 cat.jpg", 0b001, parent, None)
    assert list(parent.family()) == [parent, child]
    assert [child.is_open(stage) for stage in compiled.stages] == [False, True, False]
