"""A plan in numbers, by example: a fan-out with two stages for each child, and one within another.

    a ──u──▶ b ──s──▶ c ──r──▶ d        d joins u, r and s; c reads the request's x too; p of a is answered
"""

from __future__ import annotations

import pytest

from pipeline.graph.routes import Routes, Scope
from tests.unit.pipeline.scheduler.graphs import make_plan

A, B, C, D, E = (1 << number for number in range(5))


@pytest.fixture(scope="module")
def two_steps() -> Routes:
    return Routes.of(make_plan("two steps for each"))


@pytest.fixture(scope="module")
def nested() -> Routes:
    return Routes.of(make_plan("fan out within"))


def test_the_outermost_scope_is_over_with_the_stages_that_nothing_follows_and_those_that_are_answered(
    two_steps: Routes,
) -> None:
    scope = two_steps.scopes[0]
    assert (scope.source, scope.parent, scope.needs, scope.most) == (-1, -1, 0, 1)
    assert (scope.stages, scope.inside) == (A | D, A | B | C | D)
    assert (scope.first, scope.last) == ((0,), A | D)
    assert scope.kept == (False, True, False, False, True)  # the ingress, a, b, c, d
    assert (scope.reads, scope.exports) == ((), ())


def test_children_are_over_with_what_is_joined_of_them(two_steps: Routes) -> None:
    scope = two_steps.scopes[1]
    assert (scope.source, scope.parent, scope.needs, scope.most) == (0, 0, A, 3)
    assert (scope.stages, scope.inside) == (B | C, B | C)
    assert (scope.first, scope.last) == ((1,), B | C)
    assert (scope.exports, scope.kept) == ((1, 2), (False, False, True, True, False))


def test_children_read_the_slot_that_they_are_made_of_and_those_of_the_request(two_steps: Routes) -> None:
    assert two_steps.scopes[1].reads == (-1, 0)


def test_all_children_of_a_request_count_as_one_reader(two_steps: Routes) -> None:
    # The ingress: a, and the children. a: d, and the children. What the children made: d.
    assert two_steps.scopes[0].readers == (2, 2, 1, 1, 0)
    assert two_steps.scopes[1].readers == (1, 1, 1, 0, 0)


def test_scopes_lie_within_each_other(nested: Routes) -> None:
    outer, inner = nested.scopes[1:]
    assert [(scope.source, scope.parent, scope.most) for scope in (outer, inner)] == [(0, 0, 2), (1, 1, 2)]
    assert (outer.stages, outer.inside) == (B | D, B | C | D)
    assert (inner.stages, inner.inside) == (C, C)
    assert inner.needs == A | B
    # c reads u of a too: that is kept by the children of a, who are around those of b.
    assert (inner.reads, outer.reads) == ((1,), (0,))
    assert (outer.exports, inner.exports) == ((3,), (2,))


def test_what_is_joined_is_known_as_lists_so_many_scopes_further_out(two_steps: Routes, nested: Routes) -> None:
    assert two_steps.stages[3].lists == (0, 0, 0)
    assert [stage.lists for stage in nested.stages] == [(), (), (), (0, 0), (0,)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", (True, True, True)), ("b", (True, False, True)), ("c", (True, False, True)), ("d", (True, False, True))],
)
def test_the_scheduler_waits_for_stages_that_others_need_its_word_of(
    two_steps: Routes, name: str, expected: tuple[bool, bool, bool]
) -> None:
    route = next(stage for stage in two_steps.stages if stage.name == name)
    assert (route.essential, route.ends, route.prompt) == expected


def test_a_chain_is_one_scope() -> None:
    scopes = Routes.of(make_plan("chain")).scopes
    assert [type(scope) for scope in scopes] == [Scope]
    assert not scopes[0].contended
