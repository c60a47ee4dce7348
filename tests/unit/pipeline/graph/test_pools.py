"""How many slots of which size, and why a stage does not wait for one in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.loader import LoadedConfig
from pipeline.graph.plan import BatchPlan, Edge, Plan, PoolPlan, StagePlan, When, WorkerPlan
from pipeline.graph.planning import make_plan
from pipeline.graph.pools import _ingress_classes, pools_of, size_classes, sized_stages
from pipeline.graph.slots import fields_of
from pipeline.graph.wiring import Wiring
from pipeline.topology.cpus import Cpus
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode
from stages.spec import TensorSpec

Load = Callable[..., LoadedConfig]
MACHINE = Machine(Cpus((0, 1)), (NumaNode(0, (0, 1)),))


@pytest.fixture
def planned(load: Load, described: Callable[..., Any]) -> Callable[..., Plan]:
    def planned(stages: str, **texts: str) -> Plan:
        return make_plan(load(stages), described(**texts), MACHINE)

    return planned


def slots(plan: Plan) -> dict[str, int]:
    return {pool.name: pool.slots for pool in plan.pools}


def test_a_chain_has_slots_for_both_ends_of_each_edge(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "- {name: a, use: m:C, replicas: 2, batch: {max_size: 4}}\n- {name: b, use: m:C, batch: {max_size: 8}}\n- {name: c, use: m:C}\n",
        a="image uint8 4 -> p uint8 2", b="p uint8 2 -> q uint8 2", c="q uint8 2 -> r uint8 2",
    )  # fmt: skip
    assert [stage.credits for stage in plan.stages] == [8, 16, 4]
    # a: 2 workers x 8, b: 16, c: 4, a third more inside; what c writes is answered: its own 4, and all inside.
    assert slots(plan) == {"ingress/0": 48, "a": 16 + 16, "b": 16 + 4, "c": 4 + 48}


def test_a_stage_has_no_more_slots_than_requests_that_can_be_inside(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "- {name: a, use: m:C, batch: {max_size: 64}, credits: 1000}\n- {name: b, use: m:C, batch: {max_size: 64}}\n",
        a="image uint8 4 -> p uint8 2", b="p uint8 2 -> q uint8 2",
    )  # fmt: skip
    assert slots(plan) == {"ingress/0": 256, "a": 256, "b": 128 + 256}


def test_credits_can_be_given(planned: Callable[..., Plan]) -> None:
    plan = planned("- {name: a, use: m:C, credits: 3, batch: {max_size: 9}}\ningress: {slots: 5}\n", a="image uint8 4 -> p uint8 2")
    assert plan.stages[0].credits == 3
    assert slots(plan) == {"ingress/0": 5, "a": 3 + 5}


def test_who_stands_between_a_tensor_and_its_late_reader_counts(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "- {name: a, use: m:C}\n- {name: b, use: m:C, credits: 10}\n- {name: c, use: m:C, inputs: [b.q, a.p], credits: 100}\n",
        a="image uint8 4 -> p uint8 2", b="p uint8 2 -> q uint8 2", c="q uint8 2, p uint8 2 -> r uint8 2",
    )  # fmt: skip
    assert slots(plan)["a"] == 4 + 10 + 100


def test_readers_through_an_alias_count_and_the_alias_has_no_pool(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "- {name: a, use: m:C}\n- {name: b, use: m:C, credits: 10}\n- {name: c, use: m:C, credits: 100}\n",
        a="image uint8 4 -> p uint8 2", b="p uint8 2 -> q uint8 2 = p", c="q uint8 2 -> r uint8 2",
    )  # fmt: skip
    assert slots(plan) == {"ingress/0": 152, "a": 4 + 10 + 100, "c": 100 + 152}


def test_the_ingress_keeps_every_stage_busy_and_has_a_third_more_for_other_clients(planned: Callable[..., Plan]) -> None:
    relay = "image uint8 4 -> image uint8 4 = image"
    plan = planned("- {name: a, use: m:C, credits: 50}\n- {name: b, use: m:C, credits: 60}\n", a=relay, b=relay)
    assert slots(plan) == {"ingress/0": 147}


def test_the_ingress_is_bounded(planned: Callable[..., Plan]) -> None:
    assert slots(planned("- {name: a, use: m:C, credits: 5000}\n", a="image uint8 4 -> p uint8 2"))["ingress/0"] == 256


def test_a_slot_of_the_ingress_holds_all_inputs_aligned(planned: Callable[..., Plan]) -> None:
    plan = planned("- {name: a, use: m:C}\n", a="image uint8 4 -> p uint8 2")
    assert plan.pools[0] == PoolPlan("ingress/0", 128, 8)  # 4 bytes and 8 bytes, each on 64


@pytest.mark.parametrize(
    ("most", "count", "classes"),
    [
        (1 << 20, 16, [(1 << 20, 16)]),
        (16 << 20, 16, [(256 << 10, 11), (2 << 20, 4), (16 << 20, 1)]),
        (16 << 20, 256, [(256 << 10, 184), (2 << 20, 64), (16 << 20, 8)]),
        (16 << 20, 1, [(16 << 20, 1)]),
        (16 << 20, 2, [(256 << 10, 1), (16 << 20, 1)]),
        ((16 << 20) + 64, 8, [((256 << 10) + 4096, 5), ((2 << 20) + 4096, 2), ((16 << 20) + 4096, 1)]),
    ],
)
def test_large_inputs_have_slots_of_three_sizes(most: int, count: int, classes: list[tuple[int, int]]) -> None:
    assert _ingress_classes([TensorSpec("file", "uint8", ("bytes",), {"bytes": most})], count) == classes


def test_large_inputs_of_a_fixed_shape_have_slots_of_that_size_only() -> None:
    assert _ingress_classes([TensorSpec("frame", "uint8", (1080, 1920, 3))], 16) == [(1080 * 1920 * 3, 16)]


@given(st.integers(64, 1 << 34), st.integers(1, 65_536))
def test_classes_keep_the_count_the_order_and_room_for_the_largest(most: int, count: int) -> None:
    classes = _ingress_classes([TensorSpec("file", "uint8", ("bytes",), {"bytes": most})], count)
    assert sum(number for _, number in classes) == count
    assert [size for size, _ in classes] == sorted({size for size, _ in classes})
    assert classes[-1][0] >= most
    assert all(number > 0 for _, number in classes)


def test_what_a_stage_gives_has_slots_of_three_sizes_where_it_varies_by_much(planned: Callable[..., Plan]) -> None:
    plan = planned(
        "- {name: a, use: m:C, credits: 8}\n- {name: b, use: m:C, credits: 8}\n",
        a="image uint8 4 -> p uint8 H<=16777216", b="p uint8 H<=16777216 -> q uint8 4",
    )  # fmt: skip
    mib = 1 << 20
    assert plan.pools[1:-1] == (PoolPlan("a/0", mib, 8), PoolPlan("a/1", 4 * mib, 4), PoolPlan("a/2", 16 * mib, 4))
    assert plan.pools[-1].name == "b"


@pytest.mark.parametrize(
    "given", ["p uint8 16777216", "p uint8 H<=1048576"], ids=["of one size", "of a MiB at most"]
)
def test_else_it_has_one_pool(planned: Callable[..., Plan], given: str) -> None:
    plan = planned("- {name: a, use: m:C}\n- {name: b, use: m:C}\n", a=f"image uint8 4 -> {given}", b=f"{given} -> q uint8 4")
    assert slots(plan)["a"] == 8


def test_what_is_answered_is_of_one_size_since_a_client_may_keep_all_of_it(planned: Callable[..., Plan]) -> None:
    plan = planned("- {name: a, use: m:C}\n", a="image uint8 4 -> p uint8 H<=16777216")
    assert slots(plan) == {"ingress/0": 8, "a": 4 + 8}


def test_two_slots_are_of_one_size(planned: Callable[..., Plan]) -> None:
    large = "p uint8 H<=16777216"
    plan = planned(
        "- {name: a, use: m:C, credits: 1}\n- {name: b, use: m:C, credits: 1}\n",
        a=f"image uint8 4 -> {large}", b=f"{large} -> q uint8 4",
    )  # fmt: skip
    assert slots(plan)["a"] == 2


@pytest.mark.parametrize(
    ("most", "count", "classes"),
    [
        (16 << 20, 16, [(1 << 20, 8), (4 << 20, 4), (16 << 20, 4)]),
        (16 << 20, 3, [(1 << 20, 1), (16 << 20, 2)]),
        (16 << 20, 4, [(1 << 20, 1), (4 << 20, 1), (16 << 20, 2)]),
        ((16 << 20) + 64, 9, [((1 << 20) + 4096, 5), ((4 << 20) + 4096, 2), ((16 << 20) + 4096, 2)]),
    ],
)
def test_half_of_the_slots_are_small_and_two_at_least_are_of_the_largest(
    most: int, count: int, classes: list[tuple[int, int]]
) -> None:
    assert size_classes(most, count) == classes


@given(st.integers(1 << 20, 1 << 34), st.integers(3, 65_536))
def test_a_stage_s_classes_keep_the_count_the_order_and_room_for_the_largest(most: int, count: int) -> None:
    classes = size_classes(most, count)
    assert sum(number for _, number in classes) == count
    assert [size for size, _ in classes] == sorted({size for size, _ in classes})
    assert classes[-1][0] >= most
    assert all(number > 0 and size % 4096 == 0 for size, number in classes)
    assert sum(size * number for size, number in classes) <= 0.75 * most * count + 4096 * count


def sized(*stages: StagePlan, answered: str = "z") -> set[str]:
    return sized_stages(stages, {answered})


def stage(name: str, reads: str, scope: str = "", many: int | None = None, **more: Any) -> StagePlan:
    """A stage that gives a tensor `t` of free shape; `reads` are producers, `x` is the ingress."""
    gives = (TensorSpec("t", "uint8", ("N",), {"N": 1 << 21}, many=many),)
    edges = tuple(Edge("ingress" if one == "x" else one, "t") for one in reads)
    after = tuple(one for one in reads if one != "x")
    return StagePlan(
        name=name, use="m:C", options={}, inputs=(), edges=edges, after=after, outputs=gives, fields=fields_of(gives),
        batch=BatchPlan(), credits=4, workers=(WorkerPlan(name, 0),), scope=tuple(scope), **more,
    )  # fmt: skip


def test_slots_of_several_sizes_are_for_stages_one_after_the_other() -> None:
    assert sized(stage("a", "x"), stage("b", "ax"), stage("z", "ab")) == {"a", "b"}


def test_branches_have_slots_of_one_size_so_that_none_waits_for_the_other() -> None:
    assert sized(stage("a", "x"), stage("b", "a"), stage("c", "a"), stage("z", "bc")) == set()
    # A condition, or an order that is asked for, makes one of them wait too; but not for the other one.
    asked = When(Edge("b", "t"))
    assert sized(stage("a", "x"), stage("b", "a"), stage("c", "a", when=asked), stage("z", "bc")) == {"a", "b", "c"}


def test_what_children_give_to_the_stage_that_joins_them_is_of_one_size_and_what_they_give_each_other_is_not() -> None:
    stages = stage("a", "x", many=9), stage("b", "a", "a"), stage("c", "b", "a"), stage("z", "ac")
    assert sized(*stages) == {"a", "b"}


def test_two_fan_outs_side_by_side_are_branches_and_their_insides_are_not() -> None:
    stages = (
        stage("a", "x", many=9), stage("f", "x", many=9), stage("b", "a", "a"), stage("c", "b", "a"),
        stage("g", "f", "f"), stage("z", "cg"),
    )  # fmt: skip
    assert sized(*stages) == {"b"}


def test_if_each_child_is_answered_by_itself_there_is_a_slot_for_every_child_of_every_request() -> None:
    stages = stage("a", "x", many=9), stage("b", "a", "a"), stage("c", "b", "a")
    edges = {each.name: each.edges for each in stages}
    wiring = Wiring(tuple(edges), edges, {"a": (), "b": ("a",), "c": ("b",)}, (("c", Edge("c", "t")),))
    pools = {pool.name: pool for pool in pools_of((TensorSpec("x", "uint8", (8,)),), stages, wiring, slots=5)}
    # What it is at work on, and what clients may hold: of one size.
    assert pools["c"].slots == stages[2].credits + 5 * 9
