"""A plan in numbers, by example: a fan-out with two stages for each child, and one within another.

    a ──u──▶ b ──s──▶ c ──r──▶ d        d joins u, r and s; c reads the request's x too; p of a is answered
"""

from __future__ import annotations

import pytest

from pipeline.graph.compiled import CompiledPlan, Scope
from tests.unit.pipeline.scheduler.graphs import make_plan

A, B, C, D, E = (1 << number for number in range(5))


@pytest.fixture(scope="module")
def two_steps() -> CompiledPlan:
    return CompiledPlan.of(make_plan("two steps for each"))


@pytest.fixture(scope="module")
def nested() -> CompiledPlan:
    return CompiledPlan.of(make_plan("fan out within"))


def test_the_outermost_scope_is_over_with_the_stages_that_nothing_follows_and_those_that_are_answered(
    two_steps: CompiledPlan,
) -> None:
    scope = two_steps.scopes[0]
    assert (scope.source, scope.parent, scope.needs, scope.most) == (-1, -1, 0, 1)
    assert (scope.stages, scope.inside) == (A | D, A | B | C | D)
    assert (scope.first, scope.last) == ((0,), A | D)
    assert scope.kept == (False, True, False, False, True)  # the ingress, a, b, c, d
    assert (scope.reads, scope.exports) == ((), ())


def test_children_are_over_with_what_is_joined_of_them(two_steps: CompiledPlan) -> None:
    scope = two_steps.scopes[1]
    assert (scope.source, scope.parent, scope.needs, scope.most) == (0, 0, A, 3)
    assert (scope.stages, scope.inside) == (B | C, B | C)
    assert (scope.first, scope.last) == ((1,), B | C)
    assert (scope.exports, scope.kept) == ((1, 2), (False, False, True, True, False))


def test_children_read_the_slot_that_they_are_made_of_and_those_of_the_request(two_steps: CompiledPlan) -> None:
    assert two_steps.scopes[1].reads == (-1, 0)


def test_all_children_of_a_request_count_as_one_reader(two_steps: CompiledPlan) -> None:
    # The ingress: a, and the children. a: d, and the children. What the children made: d.
    assert two_steps.scopes[0].readers == (2, 2, 1, 1, 0)
    assert two_steps.scopes[1].readers == (1, 1, 1, 0, 0)


def test_scopes_lie_within_each_other(nested: CompiledPlan) -> None:
    outer, inner = nested.scopes[1:]
    assert [(scope.source, scope.parent, scope.most) for scope in (outer, inner)] == [(0, 0, 2), (1, 1, 2)]
    assert (outer.stages, outer.inside) == (B | D, B | C | D)
    assert (inner.stages, inner.inside) == (C, C)
    assert inner.needs == A | B
    # c reads u of a too: that is kept by the children of a, which are around those of b.
    assert (inner.reads, outer.reads) == ((1,), (0,))
    assert (outer.exports, inner.exports) == ((3,), (2,))


def test_what_is_joined_is_known_as_lists_so_many_scopes_further_out(two_steps: CompiledPlan, nested: CompiledPlan) -> None:
    assert two_steps.stages[3].lists == (0, 0, 0)
    assert [stage.lists for stage in nested.stages] == [(), (), (), (0, 0), (0,)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", (True, True, True)), ("b", (True, False, True)), ("c", (True, False, True)), ("d", (True, False, True))],
)
def test_the_scheduler_waits_for_stages_that_others_need_its_word_of(
    two_steps: CompiledPlan, name: str, expected: tuple[bool, bool, bool]
) -> None:
    current = next(stage for stage in two_steps.stages if stage.name == name)
    assert (current.must_notify, current.ends_order, current.notifies_at_once) == expected


def test_a_chain_is_one_scope() -> None:
    scopes = CompiledPlan.of(make_plan("chain")).scopes
    assert [type(scope) for scope in scopes] == [Scope]
    assert not scopes[0].guards_last_slot


def _compiled(graph: str) -> CompiledPlan:
    return CompiledPlan.of(make_plan(graph))


def test_every_tensor_with_bytes_of_its_own_has_a_number() -> None:
    found = _compiled("early outputs")
    # x, y; a.p, a.q; b.r; c.z
    assert [(stage.base, stage.fields, stage.sources) for stage in found.stages] == [
        (2, 2, (0,)), (4, 1, (2, 1)), (5, 1, (4, 3, 0)),
    ]  # fmt: skip
    assert (found.inputs, found.tensors, found.outputs) == (2, 6, (5, 3, 1))


def test_an_alias_is_its_source_and_its_stage_fills_no_slot() -> None:
    found = _compiled("relay between")
    assert [(stage.fields, stage.sources, len(stage.pools)) for stage in found.stages] == [
        (1, (0,), 1), (0, (1,), 0), (1, (1,), 1),
    ]  # fmt: skip
    # What it passes on is read in the slot of the stage before.
    assert found.stages[2].reads == (0,)


def test_a_stage_needs_all_that_it_reads_and_is_followed_by_those_that_need_it() -> None:
    found = _compiled("diamond")
    assert [stage.needs for stage in found.stages] == [0, 0b1, 0b1, 0b110]
    assert [stage.followers for stage in found.stages] == [(1, 2), (3,), (3,), ()]
    assert found.first == (0,)


def test_a_notice_is_waited_for_where_the_answer_refers_to_the_slot_or_several_follow() -> None:
    assert [stage.notifies_at_once for stage in _compiled("chain").stages] == [False, False, True]
    assert [stage.notifies_at_once for stage in _compiled("diamond").stages] == [True, False, False, True]
    assert _compiled("two ends").kept == (False, True, True, True)


def test_an_order_ends_with_a_stage_that_fans_out_or_is_asked() -> None:
    assert [stage.ends_order for stage in _compiled("fan out").stages] == [True, False, False]
    assert [stage.ends_order for stage in _compiled("either or").stages] == [True, False, False, False]


def test_a_scope_is_what_runs_for_each_of_many() -> None:
    outer, inner = _compiled("fan out").scopes
    assert (outer.stages, outer.inside, inner.stages, inner.source, inner.parent) == (0b101, 0b111, 0b010, 0, 0)
    assert (inner.needs, inner.first, inner.exports, inner.most) == (0b001, (1,), (1,), 3)
    # `c` joins: what the children make is kept until then.
    assert _compiled("fan out").stages[2].lists == (0, -1)


def test_a_scope_within_a_scope_has_that_one_as_parent() -> None:
    found = _compiled("fan out within")
    assert [scope.parent for scope in found.scopes] == [-1, 0, 1]
    assert [found.stages[index].scope for index in range(5)] == [0, 1, 2, 1, 0]
    assert found.scopes[1].inside == 0b01110


def test_a_condition_is_a_tensor_and_whether_it_must_not_hold() -> None:
    a, b, d, e = _compiled("either or").stages
    assert (a.when, b.when, d.when, e.when) == (None, (2, False), (2, True), None)
    assert a.asked == (1,)
    # `e` runs with either of both.
    assert (b.required, e.required, e.optional) == (0b1, 0, (0b10, 0b100))


def test_pools_of_a_stage_rise_in_size() -> None:
    plan = make_plan("sizes")
    stage = CompiledPlan.of(plan).stages[1]
    assert stage.slot_sizes == tuple(sorted(stage.slot_sizes))
    assert [plan.pools[at].name for at in stage.pools] == ["b/0", "b/1", "b/2"]


def test_if_each_child_is_answered_by_itself_the_client_has_the_slots_of_the_outputs_from_the_children() -> None:
    found = _compiled("each child perhaps")
    assert (found.answered, found.slots_of_answer) == (1, 2 * 3)
    request, children = found.scopes
    assert (any(request.kept), children.kept) == (False, (False, False, True, True))
    assert children.exports == (1, 2)


def test_a_whole_answer_is_of_the_request_and_refers_to_one_slot_of_each_producer() -> None:
    found = _compiled("early outputs")
    assert (found.answered, found.slots_of_answer) == (0, 3)
