from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scheduler.backlog import AGING_NS, Backlog
from pipeline.scheduler.ledger import Lease, Request


def request(number: int, *, priority: int = 0, submitted: int = 0) -> Request:
    return Request(
        number, 1, number, Lease(0, 0, 1), (), stages=1, tensors=0, readers=(0, 0), deadline=0,
        priority=priority, submitted=submitted,
    )  # fmt: skip


def drained(backlog: Backlog) -> list[int]:
    return [backlog.pop().id for _ in range(len(backlog))]


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


def test_a_stream_of_higher_priority_starves_nobody() -> None:
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


def test_an_empty_backlog_serves_nobody() -> None:
    for backlog in (Backlog(), filled(request(1)), filled(request(1), request(2, priority=1))):
        drained(backlog)
        with pytest.raises(IndexError):
            backlog.pop()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5))))
def test_whatever_the_order_everybody_is_served_once_and_equals_in_order(arrivals: list[tuple[int, int]]) -> None:
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
