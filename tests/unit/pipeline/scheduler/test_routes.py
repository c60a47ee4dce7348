"""The plan in small integers."""

from __future__ import annotations

from pipeline.scheduler.routes import Routes
from tests.unit.pipeline.scheduler.graphs import make_plan


def routes(graph: str) -> Routes:
    return Routes.of(make_plan(graph))


def test_every_tensor_with_bytes_of_its_own_has_a_number() -> None:
    found = routes("early outputs")
    # x, y; a.p, a.q; b.r; c.z
    assert [(stage.base, stage.fields, stage.sources) for stage in found.stages] == [
        (2, 2, (0,)), (4, 1, (2, 1)), (5, 1, (4, 3, 0)),
    ]  # fmt: skip
    assert (found.inputs, found.tensors, found.outputs) == (2, 6, (5, 3, 1))


def test_an_alias_is_its_source_and_its_stage_fills_no_slot() -> None:
    found = routes("relay between")
    assert [(stage.fields, stage.sources, len(stage.pools)) for stage in found.stages] == [
        (1, (0,), 1), (0, (1,), 0), (1, (1,), 1),
    ]  # fmt: skip
    # What it passes on is read in the slot of the stage before.
    assert found.stages[2].reads == (0,)


def test_a_stage_needs_all_that_it_reads_and_is_followed_by_those_that_need_it() -> None:
    found = routes("diamond")
    assert [stage.needs for stage in found.stages] == [0, 0b1, 0b1, 0b110]
    assert [stage.followers for stage in found.stages] == [(1, 2), (3,), (3,), ()]
    assert found.first == (0,)


def test_a_notice_is_waited_for_where_the_answer_refers_to_the_slot_or_several_follow() -> None:
    assert [stage.prompt for stage in routes("chain").stages] == [False, False, True]
    assert [stage.prompt for stage in routes("diamond").stages] == [True, False, False, True]
    assert routes("two ends").kept == (False, True, True, True)


def test_an_order_ends_with_a_stage_that_fans_out_or_is_asked() -> None:
    assert [stage.ends for stage in routes("fan out").stages] == [True, False, False]
    assert [stage.ends for stage in routes("either or").stages] == [True, False, False, False]


def test_a_scope_is_what_runs_for_each_of_many() -> None:
    outer, inner = routes("fan out").scopes
    assert (outer.stages, outer.inside, inner.stages, inner.source, inner.parent) == (0b101, 0b111, 0b010, 0, 0)
    assert (inner.needs, inner.first, inner.exports, inner.most) == (0b001, (1,), (1,), 3)
    # `c` joins: what the children make is kept until then.
    assert routes("fan out").stages[2].lists == (0, -1)


def test_a_scope_within_a_scope_has_that_one_as_parent() -> None:
    found = routes("fan out within")
    assert [scope.parent for scope in found.scopes] == [-1, 0, 1]
    assert [found.stages[index].scope for index in range(5)] == [0, 1, 2, 1, 0]
    assert found.scopes[1].inside == 0b01110


def test_a_condition_is_a_tensor_and_whether_it_must_not_hold() -> None:
    a, b, d, e = routes("either or").stages
    assert (a.when, b.when, d.when, e.when) == (None, (2, False), (2, True), None)
    assert a.asked == (1,)
    # `e` runs with either of both.
    assert (b.required, e.required, e.optional) == (0b1, 0, (0b10, 0b100))


def test_pools_of_a_stage_rise_in_size() -> None:
    plan = make_plan("sizes")
    stage = Routes.of(plan).stages[1]
    assert stage.slot_sizes == tuple(sorted(stage.slot_sizes))
    assert [plan.pools[at].name for at in stage.pools] == ["b/0", "b/1", "b/2"]
