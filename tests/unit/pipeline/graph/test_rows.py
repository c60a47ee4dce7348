"""How many rows a request may carry, and what memory that takes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.plan import Edge, Plan, When
from pipeline.graph.rows import SMALL_BYTES, obstacle, rows_of
from stages.spec import TensorSpec
from tests.unit.pipeline.scheduler.graphs import GRAPHS, ROWS, make_plan


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ("chain", None),
        ("relay between", None),
        ("diamond", "its stages stand on several branches"),
        ("sizes", "t of stage a is not of one size"),
        ("each child", "stage a takes or gives many tensors of u a row"),
        ("either or", "stage b runs only if `when:` holds, which each row decides for itself"),
    ],
)
def test_only_rows_of_one_size_that_go_one_way_go_together(graph: str, why: str | None) -> None:
    plan = make_plan(graph)
    found = obstacle(plan.inputs, plan.stages)
    assert (found is None) is (why is None)
    assert (found or "").startswith(why or "")


@pytest.mark.parametrize("graph", sorted(GRAPHS))
def test_no_graph_of_several_rows_has_a_scope_a_condition_or_a_slot_of_guessed_size(graph: str) -> None:
    plan = make_plan(graph)
    if obstacle(plan.inputs, plan.stages) is None:
        compiled = CompiledPlan.of(plan)
        assert len(compiled.scopes) == 1
        assert all(stage.made is not None and not stage.guards_last_slot for stage in compiled.stages)


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "uint8", ("n",), {"n": 4}),
        TensorSpec("x", "json", ("bytes",), {"bytes": 4}),
        TensorSpec("x", "bytes", (2,), {"bytes": 40}),
    ],
)
def test_an_input_of_any_size_is_told_by_name(spec: TensorSpec) -> None:
    assert obstacle((spec,), make_plan("chain").stages) == "input x is not of one size"


def test_what_answers_in_parts_or_only_perhaps_takes_one_row() -> None:
    plan = make_plan("chain")
    assert obstacle(plan.inputs, plan.stages, in_parts=True) == "its answers come in parts"
    first = replace(plan.stages[1], when=When(Edge("a", "t")))
    assert "`when:`" in (obstacle(plan.inputs, (plan.stages[0], first, plan.stages[2])) or "")


def test_memory_for_rows_is_there_if_it_is_asked_for_or_if_clients_see_a_batch_axis_and_it_is_small() -> None:
    plan = make_plan("chain")
    assert rows_of(None, 0, plan.inputs, plan.stages) == (1, "set ingress.rows for more")
    assert rows_of(None, 8, plan.inputs, plan.stages).most == 8
    assert rows_of(500, 0, plan.inputs, plan.stages).most == 500
    assert rows_of(1, 8, plan.inputs, plan.stages).most == 1
    large = (TensorSpec("x", "uint8", (100_000,)),)
    most, why = rows_of(None, 32, large, plan.stages)
    assert (most, SMALL_BYTES // 100_000) == (2, 2)
    assert "set ingress.rows for more" in why
    assert rows_of(None, 32, (TensorSpec("x", "uint8", (300_000,)),), plan.stages).most == 1


def test_requests_of_several_rows_have_pools_of_their_own_of_as_many_rows() -> None:
    plan = make_plan("rows", slots=24)
    found = {pool.name: (pool.slot_bytes, pool.slots) for pool in plan.pools}
    assert found["ingress/0"] == (64, 24)
    # Three rows would fit into as many bytes, but a client tells the slots by their size.
    assert found["ingress/1"] == (128, 24 // ROWS)
    # `c` is answered: a slot for each request that can be inside, beside those that are being filled.
    assert (found["b/1"][1], found["c/1"][1]) == (4, 2 + 24 // ROWS)
    compiled = CompiledPlan.of(plan)
    assert [plan.pools[at].name for at in compiled.several_pools] == ["ingress/1", "a/1", "b/1", "c/1"]
    assert CompiledPlan.of(make_plan("chain")).several_pools == ()


def test_outputs_of_several_rows_lie_one_after_the_other() -> None:
    plan: Plan = make_plan("rows of several tensors")
    stage = CompiledPlan.of(plan).stages[0]
    assert stage.made == ((0, "uint8", (16,)), (64, "uint8", (16,)))
    assert stage.made_of(1) == stage.made
    assert stage.made_of(3) == ((0, "uint8", (3, 16)), (64, "uint8", (3, 16)))
    assert stage.made_of(5) == ((0, "uint8", (5, 16)), (128, "uint8", (5, 16)))
    assert not stage.sized
