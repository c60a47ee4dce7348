from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.compiled import CompiledPlan
from pipeline.scheduler.backlog import AGING_NS, Backlog
from pipeline.scheduler.ledger import Request
from pipeline.wire.messages import SlotRef
from tests.unit.pipeline.scheduler.graphs import make_plan

SCOPES = CompiledPlan.of(make_plan("fan out")).scopes


def request(number: int, *, priority: int = 0, submitted: int = 0) -> Request:
    return Request(
        number, SCOPES[0], client=1, tag=number, ingress=SlotRef(0, 0, 1), values=[], stages=3, deadline=0,
        priority=priority, submitted=submitted,
    )  # fmt: skip


def children(number: int, count: int, **more: int) -> list[Request]:
    """The children of request `number`: number * 100, number * 100 + 1, ..."""
    parent = request(number, **more)
    return [parent.child(number * 100 + position, SCOPES[1], position, []) for position in range(count)]


def drained(backlog: Backlog) -> list[int]:
    """The numbers of the requests that are served, in order; `peek` names each of them before."""
    served = []
    while backlog:
        head = backlog.peek()
        served.append(backlog.pop().id)
        assert served[-1] == head.id
    return served


def filled(*requests: Request) -> Backlog:
    backlog = Backlog()
    for each in requests:
        backlog.push(each)
    return backlog


def test_equals_are_served_as_they_come() -> None:
    assert drained(filled(*(request(number) for number in range(5)))) == [0, 1, 2, 3, 4]


def test_a_higher_priority_overtakes() -> None:
    late, middle, early = request(1, priority=2), request(2, priority=1), request(3)
    assert drained(filled(late, middle, early)) == [3, 2, 1]


def test_who_has_waited_long_enough_is_not_overtaken_any_more() -> None:
    old = request(1, priority=2, submitted=0)
    assert drained(filled(old, request(2, submitted=2 * AGING_NS - 1))) == [2, 1]
    assert drained(filled(old, request(2, submitted=2 * AGING_NS + 1))) == [1, 2]


def test_many_requests_of_a_higher_priority_do_not_starve_the_others() -> None:
    backlog = filled(request(0, priority=3))
    step = AGING_NS // 10
    for number in range(1, 100):
        backlog.push(request(number, submitted=number * step))
        if backlog.pop().id == 0:
            assert number == 31
            return
    raise AssertionError("it starved")


def test_what_runs_again_comes_first_among_its_equals() -> None:
    backlog = filled(request(1), request(2))
    backlog.push_front(request(3))
    assert drained(backlog) == [3, 1, 2]


def test_one_can_be_taken_out_wherever_it_stands() -> None:
    waiting = [request(number, priority=number % 2) for number in range(4)]
    backlog = filled(*waiting)
    assert backlog.remove(waiting[2])
    assert not backlog.remove(waiting[2])
    assert not backlog.remove(request(9, priority=7))
    assert drained(backlog) == [0, 1, 3]


def test_a_backlog_is_true_if_a_request_waits_and_says_so_itself() -> None:
    # Compiled code asks `__len__` only if it cannot be None.
    backlog = Backlog()
    assert not backlog.__bool__()
    backlog.push(request(1))
    assert backlog.__bool__()


def test_an_empty_backlog_has_no_request_to_serve() -> None:
    for backlog in (Backlog(), filled(request(1)), filled(request(1), request(2, priority=1))):
        drained(backlog)
        with pytest.raises(IndexError):
            backlog.pop()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5))))
def test_whatever_the_order_every_request_is_served_once_and_equals_in_order(arrivals: list[tuple[int, int]]) -> None:
    now = 0
    requests = []
    for number, (priority, passed) in enumerate(arrivals):
        now += passed * AGING_NS // 2
        requests.append(request(number, priority=priority, submitted=now))
    served = drained(filled(*requests))
    assert sorted(served) == list(range(len(requests)))
    for priority in range(4):
        lane = [number for number in served if requests[number].priority == priority]
        assert lane == sorted(lane)
    due = [requests[number].submitted + AGING_NS * requests[number].priority for number in served]
    assert due == sorted(due)


def test_many_children_of_one_request_let_the_next_ones_by_after_a_batch() -> None:
    backlog = Backlog(quantum=2)
    for each in (*children(1, 5), *children(2, 3), *children(3, 1)):
        backlog.push(each)
    assert drained(backlog) == [100, 101, 200, 201, 300, 102, 103, 202, 104]


def test_children_that_come_later_join_their_siblings_place() -> None:
    backlog = Backlog(quantum=8)
    first, *others = children(1, 3)
    for each in (first, request(2), *others):
        backlog.push(each)
    assert drained(backlog) == [100, 101, 102, 2]


def test_a_child_that_runs_again_is_served_before_its_siblings() -> None:
    backlog = Backlog(quantum=8)
    first, second, third = children(1, 3)
    for each in (second, third):
        backlog.push(each)
    backlog.push_front(first)
    assert drained(backlog) == [100, 101, 102]


def test_children_can_be_taken_out_one_by_one() -> None:
    backlog = Backlog(quantum=8)
    first, second = children(1, 2)
    stranger = children(2, 1)[0]
    backlog.push(first)
    backlog.push(request(3))
    assert not backlog.remove(second)
    assert not backlog.remove(stranger)
    assert backlog.remove(first)
    assert drained(backlog) == [3]


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=40), st.integers(1, 4))
def test_no_child_is_lost_or_served_twice(arrivals: list[tuple[int, bool]], quantum: int) -> None:
    families = {number: iter(children(number, 40)) for number in range(1, 6)}
    backlog = Backlog(quantum)
    pushed = []
    for number, front in arrivals:
        child = next(families[number])
        pushed.append(child.id)
        (backlog.push_front if front else backlog.push)(child)
    assert sorted(drained(backlog)) == sorted(pushed)
    assert len(backlog) == 0
