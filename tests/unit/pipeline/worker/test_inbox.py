from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.wire.messages import Order
from pipeline.worker import inbox as inbox_module
from pipeline.worker.inbox import CLOSE_REASONS, Closed, Inbox

MS = 1_000_000


def order(request: int, *, attempt: int = 0, deadline: int = 0, group: int = 0) -> Order:
    return Order(request, attempt, deadline, group, (), ())


def taken(closed: Closed | None) -> tuple[list[int], str] | None:
    return None if closed is None else ([row.order.request for row in closed.rows], closed.reason)


@pytest.fixture
def fill() -> Callable[..., Inbox]:
    def fill(count: int, *, max_size: int = 4, delay_ms: int = 10, credits: int = 8, at: int = 0) -> Inbox:
        inbox = Inbox(max_size, delay_ms * MS, credits)
        for request in range(count):
            assert inbox.add(order(request), at + request)
        return inbox

    return fill


def test_nothing_waits_nothing_closes() -> None:
    inbox = Inbox(4, 0, 8)
    assert inbox.take(0) is None
    assert inbox.wake_at() is None


def test_a_full_batch_closes_at_once_and_the_rest_waits_on(fill: Callable[..., Inbox]) -> None:
    inbox = fill(6)
    assert taken(inbox.take(6)) == ([0, 1, 2, 3], "full")
    assert inbox.take(6) is None
    assert len(inbox) == 2
    assert inbox.wake_at() == 4 + 10 * MS


def test_the_oldest_row_waits_no_longer_than_the_delay(fill: Callable[..., Inbox]) -> None:
    inbox = fill(2)
    assert inbox.wake_at() == 10 * MS
    assert inbox.take(10 * MS - 1) is None
    assert taken(inbox.take(10 * MS)) == ([0, 1], "delay")


def test_without_a_delay_what_is_here_goes(fill: Callable[..., Inbox]) -> None:
    inbox = fill(2, delay_ms=0)
    assert taken(inbox.take(0)) == ([0, 1], "drained")


def test_a_draining_inbox_does_not_wait(fill: Callable[..., Inbox]) -> None:
    inbox = fill(1)
    inbox.draining = True
    assert taken(inbox.take(0)) == ([0], "drained")


def test_it_does_not_wait_for_more_than_can_come(fill: Callable[..., Inbox]) -> None:
    inbox = fill(2, credits=3)
    assert inbox.take(0) is None
    inbox.add(order(2), 0)
    assert taken(inbox.take(0)) == ([0, 1, 2], "slots")


def test_half_of_the_time_to_the_first_deadline_is_left_for_computing() -> None:
    inbox = Inbox(4, 100 * MS, 8)
    inbox.add(order(0), 0)
    inbox.add(order(1, deadline=30 * MS), 10 * MS)
    inbox.add(order(2, deadline=90 * MS), 10 * MS)
    assert inbox.wake_at() == 20 * MS
    assert inbox.take(20 * MS - 1) is None
    assert taken(inbox.take(20 * MS)) == ([0, 1, 2], "deadline")
    inbox.add(order(3), 21 * MS)
    assert inbox.wake_at() == 121 * MS  # the deadlines have gone with their rows


def test_a_deadline_in_the_past_closes_at_once() -> None:
    inbox = Inbox(4, 100 * MS, 8)
    inbox.add(order(0, deadline=1), 50 * MS)
    assert taken(inbox.take(50 * MS)) == ([0], "deadline")


def test_the_docstring_explains_every_reason() -> None:
    for reason in CLOSE_REASONS:
        assert f"\n    {reason} " in str(inbox_module.__doc__)


def test_a_fenced_order_is_forgotten_and_does_not_count_any_more() -> None:
    inbox = Inbox(4, 100 * MS, 8)
    inbox.add(order(0, deadline=10 * MS), 0)
    inbox.add(order(1), 0)
    inbox.fence(0, 0)
    assert len(inbox) == 1
    assert inbox.wake_at() == 100 * MS
    assert taken(inbox.take(100 * MS)) == ([1], "delay")


def test_an_order_that_comes_after_its_fence_is_refused() -> None:
    inbox = Inbox(4, 0, 8)
    inbox.fence(0, 0)
    assert not inbox.add(order(0), 0)
    assert inbox.add(order(0, attempt=1), 0)
    assert inbox.add(order(1), 0)
    assert taken(inbox.take(0)) == ([0, 1], "drained")


def test_fences_are_remembered_for_long_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_MAX_FENCES", 3)
    inbox = Inbox(4, 0, 8)
    for request in range(4):
        inbox.fence(request, 0)
    assert inbox.add(order(0), 0)
    assert not any(inbox.add(order(request), 0) for request in (1, 2, 3))


def test_clear_forgets_orders_deadlines_and_fences(fill: Callable[..., Inbox]) -> None:
    inbox = fill(3)
    inbox.add(order(8, deadline=5), 0)
    inbox.fence(9, 0)
    inbox.clear()
    assert len(inbox) == 0
    assert inbox.wake_at() is None
    assert inbox.add(order(9), 0)
    assert inbox.wake_at() == 10 * MS


def test_a_group_is_batched_alone_and_at_once() -> None:
    inbox = Inbox(4, 10 * MS, 8)
    inbox.add(order(0), 0)
    inbox.add(order(1, group=7), 0)
    inbox.add(order(2), 0)
    inbox.add(order(3, group=7), 0)
    inbox.add(order(4, group=8), 0)
    batches = []
    while (closed := inbox.take(10 * MS)) is not None:
        batches.append([row.order.request for row in closed.rows])
    assert batches == [[0], [1, 3], [2], [4]]


class InboxMachine(RuleBasedStateMachine):
    """Every order that is added comes out once, in order within its kind, unless it was fenced."""

    def __init__(self) -> None:
        super().__init__()
        self.max_size, self.delay, self.credits = 3, 5, 6
        self.inbox = Inbox(self.max_size, self.delay, self.credits)
        self.now = 0
        self.next = 0
        self.model: list[Order] = []
        self.fenced: set[int] = set()

    @rule(deadline=st.sampled_from([0, 0, 0, 3, 30]), group=st.sampled_from([0, 0, 0, 1, 2]))
    def add(self, deadline: int, group: int) -> None:
        if sum(known.group == group for known in self.model) >= (self.max_size if group else self.credits):
            return
        made = order(self.next, deadline=deadline and self.now + deadline, group=group)
        self.next += 1
        assert self.inbox.add(made, self.now) == (made.request not in self.fenced)
        if made.request not in self.fenced:
            self.model.append(made)

    @rule(back=st.integers(-3, 8))
    def fence(self, back: int) -> None:
        """One that is here, has gone, or will come."""
        request = max(0, self.next - back)
        self.fenced.add(request)
        self.inbox.fence(request, 0)
        self.model = [known for known in self.model if known.request != request]

    @rule(passed=st.integers(0, 4))
    def wait(self, passed: int) -> None:
        self.now += passed

    @rule()
    def take(self) -> None:
        closed = self.inbox.take(self.now)
        if closed is None:
            if self.model:
                wake = self.inbox.wake_at()
                assert wake is not None
                assert wake > self.now, "nobody would ask again"
            return
        rows = [row.order for row in closed.rows]
        assert closed.reason in CLOSE_REASONS
        assert 1 <= len(rows) <= self.max_size
        group = self.model[0].group
        assert {row.group for row in rows} == {group}
        assert rows == [known for known in self.model if known.group == group][: len(rows)]
        self.model = [known for known in self.model if known not in rows]

    @invariant()
    def the_same_wait(self) -> None:
        assert len(self.inbox) == len(self.model)

    def teardown(self) -> None:
        self.inbox.draining = True
        while self.model:
            before = len(self.model)
            self.take()
            assert len(self.model) < before


TestInboxMachine = InboxMachine.TestCase
