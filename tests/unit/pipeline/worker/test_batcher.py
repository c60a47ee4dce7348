from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.wire.messages import Hop, Order
from pipeline.wire.records import CLOSE_REASONS
from pipeline.worker import batcher as batcher_module
from pipeline.worker.batcher import Batcher, Closed
from pipeline.worker.candidates import Place

ROOT = Path(__file__).parents[4]
MS = 1_000_000

NOWHERE = Hop(0, 0, 0, 0, 0, False, (), ())


def order(request: int, *, attempt: int = 0, deadline: int = 0, group: int = 0) -> Order:
    return Order(request, attempt, deadline, group, NOWHERE, b"", "")


def taken(closed: Closed | None) -> tuple[list[int], str] | None:
    return None if closed is None else ([row.order.request for row in closed.rows], closed.reason)


@pytest.fixture
def fill() -> Callable[..., Batcher]:
    def fill(count: int, *, max_size: int = 4, delay_ms: int = 10, credits: int = 8, at: int = 0) -> Batcher:
        batcher = Batcher(max_size, delay_ms * MS, credits)
        for request in range(count):
            assert batcher.add(order(request), at + request)
        return batcher

    return fill


def test_nothing_waits_nothing_closes() -> None:
    batcher = Batcher(4, 0, 8)
    assert batcher.take(0) is None
    assert batcher.wake_at() is None


def test_a_full_batch_closes_at_once_and_the_rest_waits_on(fill: Callable[..., Batcher]) -> None:
    batcher = fill(6)
    assert taken(batcher.take(6)) == ([0, 1, 2, 3], "full")
    assert batcher.take(6) is None
    assert len(batcher) == 2
    assert batcher.wake_at() == 4 + 10 * MS


def test_the_oldest_row_waits_no_longer_than_the_delay(fill: Callable[..., Batcher]) -> None:
    batcher = fill(2)
    assert batcher.wake_at() == 10 * MS
    assert batcher.take(10 * MS - 1) is None
    assert taken(batcher.take(10 * MS)) == ([0, 1], "delay")


def test_without_a_delay_what_is_here_goes(fill: Callable[..., Batcher]) -> None:
    batcher = fill(2, delay_ms=0)
    assert taken(batcher.take(0)) == ([0, 1], "drained")


def test_a_draining_inbox_does_not_wait(fill: Callable[..., Batcher]) -> None:
    batcher = fill(1)
    batcher.draining = True
    assert taken(batcher.take(0)) == ([0], "drained")


def test_it_does_not_wait_for_more_than_can_come(fill: Callable[..., Batcher]) -> None:
    batcher = fill(2, credits=3)
    assert batcher.take(0) is None
    batcher.add(order(2), 0)
    assert taken(batcher.take(0)) == ([0, 1, 2], "slots")


def test_half_of_the_time_to_the_first_deadline_is_left_for_computing() -> None:
    batcher = Batcher(4, 100 * MS, 8)
    batcher.add(order(0), 0)
    batcher.add(order(1, deadline=30 * MS), 10 * MS)
    batcher.add(order(2, deadline=90 * MS), 10 * MS)
    assert batcher.wake_at() == 20 * MS
    assert batcher.take(20 * MS - 1) is None
    assert taken(batcher.take(20 * MS)) == ([0, 1, 2], "deadline")
    batcher.add(order(3), 21 * MS)
    assert batcher.wake_at() == 121 * MS  # the deadlines have gone with their rows


def test_a_deadline_in_the_past_closes_at_once() -> None:
    batcher = Batcher(4, 100 * MS, 8)
    batcher.add(order(0, deadline=1), 50 * MS)
    assert taken(batcher.take(50 * MS)) == ([0], "deadline")


def test_the_docstring_explains_every_reason() -> None:
    # Out of the source: a compiled module has none.
    docstring = str(ast.get_docstring(ast.parse((ROOT / "pipeline/worker/batcher.py").read_text())))
    for reason in CLOSE_REASONS:
        assert f"\n    {reason} " in docstring


def test_a_fenced_order_is_forgotten_and_does_not_count_any_more() -> None:
    batcher = Batcher(4, 100 * MS, 8)
    batcher.add(order(0, deadline=10 * MS), 0)
    batcher.add(order(1), 0)
    batcher.fence(0, 0)
    assert len(batcher) == 1
    assert batcher.take(5 * MS) is None
    assert batcher.wake_at() == 100 * MS
    assert taken(batcher.take(100 * MS)) == ([1], "delay")


def test_an_order_that_comes_after_its_fence_is_refused() -> None:
    batcher = Batcher(4, 0, 8)
    batcher.fence(0, 0)
    assert not batcher.add(order(0), 0)
    assert batcher.add(order(0, attempt=1), 0)
    assert batcher.add(order(1), 0)
    assert taken(batcher.take(0)) == ([0, 1], "drained")


def test_fences_are_remembered_for_long_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_MAX_FENCES", 3)
    batcher = Batcher(4, 0, 8)
    for request in range(4):
        batcher.fence(request, 0)
    assert batcher.add(order(0), 0)
    assert not any(batcher.add(order(request), 0) for request in (1, 2, 3))


def test_clear_forgets_orders_deadlines_and_fences(fill: Callable[..., Batcher]) -> None:
    batcher = fill(3)
    batcher.add(order(8, deadline=5), 0)
    batcher.fence(9, 0)
    batcher.clear()
    assert len(batcher) == 0
    assert batcher.wake_at() is None
    assert batcher.add(order(9), 0)
    assert batcher.wake_at() == 10 * MS


def test_a_group_is_batched_alone_and_at_once() -> None:
    batcher = Batcher(4, 10 * MS, 8)
    batcher.add(order(0), 0)
    batcher.add(order(1, group=7), 0)
    batcher.add(order(2), 0)
    batcher.add(order(3, group=7), 0)
    batcher.add(order(4, group=8), 0)
    batches = []
    while (closed := batcher.take(10 * MS)) is not None:
        batches.append([row.order.request for row in closed.rows])
    assert batches == [[0, 2], [1, 3], [4]]


def test_batches_of_one_are_the_order_that_came_first() -> None:
    batcher = Batcher(1, 10 * MS, 8, form=lambda order: order.request)
    batcher.add(order(0, deadline=5), 0)
    for request in (1, 2, 3):
        batcher.add(order(request, group=request % 2), 0)
    batcher.fence(2, 0)
    assert [taken(batcher.take(0)) for _ in range(4)] == [([0], "full"), ([1], "full"), ([3], "full"), None]
    assert batcher.wake_at() is None
    batcher.add(order(4), 7)
    assert batcher.wake_at() == 7 + 10 * MS


# -- forms -----------------------------------------------------------------------------------------


def of_two_forms(*, max_size: int = 3, delay_ms: int = 10, credits: int = 8) -> Batcher:
    """Even requests are of one form, odd ones of another."""
    return Batcher(max_size, delay_ms * MS, credits, form=lambda order: order.request % 2)


def test_rows_of_different_forms_never_share_a_batch() -> None:
    batcher = of_two_forms(delay_ms=0)
    for request in (0, 1, 3, 2, 5):
        batcher.add(order(request), request)
    assert [taken(batcher.take(9)) for _ in range(3)] == [([0, 2], "drained"), ([1, 3, 5], "full"), None]


def test_a_full_batch_of_one_form_closes_while_another_form_waits() -> None:
    batcher = of_two_forms()
    for request in (1, 0, 2, 4):
        batcher.add(order(request), 0)
    assert taken(batcher.take(1)) == ([0, 2, 4], "full")
    assert batcher.take(1) is None
    assert batcher.wake_at() == 10 * MS


def test_a_rare_form_that_is_overdue_goes_before_a_full_batch_of_a_common_one() -> None:
    batcher = of_two_forms()
    batcher.add(order(1), 0)
    for request in (0, 2, 4, 6):
        batcher.add(order(request), 5 * MS)
    assert taken(batcher.take(10 * MS)) == ([1], "delay")
    assert taken(batcher.take(10 * MS)) == ([0, 2, 4], "full")


def test_a_deadline_closes_the_batch_of_its_own_form() -> None:
    batcher = of_two_forms(delay_ms=100)
    batcher.add(order(0), 0)
    batcher.add(order(1), 0)
    batcher.add(order(3, deadline=20 * MS), 0)
    assert batcher.take(9 * MS) is None
    assert taken(batcher.take(10 * MS)) == ([1, 3], "deadline")


def test_where_nothing_more_can_come_the_oldest_form_goes() -> None:
    batcher = of_two_forms(credits=3)
    for request in (0, 1, 3):
        batcher.add(order(request), request)
    assert taken(batcher.take(4)) == ([0], "slots")


# -- neighbours ------------------------------------------------------------------------------------


def in_slots(slots: dict[int, int], *, gather: bool = True, max_size: int = 3, delay_ms: int = 10) -> Batcher:
    """A batcher with requests that lie in the given slots."""

    def place(order: Order) -> Place:
        return Place((slots[order.request],), (slots[order.request] + 1,))

    batcher = Batcher(max_size, delay_ms * MS, 16, place=place, gather=gather)
    for request in slots:
        batcher.add(order(request), request)
    return batcher


@pytest.mark.parametrize(
    ("slots", "batch"),
    [
        ({0: 4, 1: 5, 2: 6, 3: 7}, {0, 1, 2}),
        ({0: 4, 1: 9, 2: 5, 3: 2, 4: 6}, {0, 2, 4}),
        ({0: 4, 1: 9, 2: 3, 3: 5}, {0, 2, 3}),
        ({0: 4, 1: 9, 2: 5, 3: 7}, {0, 2, 1}),
        ({0: 4, 1: 9, 2: 1, 3: 7}, {0, 1, 2}),
    ],
    ids=["they came so", "among others", "one lies before", "a run too short", "none"],
)
def test_neighbours_of_the_oldest_row_are_preferred_and_the_oldest_fill_up(slots: dict[int, int], batch: set[int]) -> None:
    closed = taken(in_slots(slots).take(9))
    assert closed is not None
    assert (set(closed[0]), closed[1]) == (batch, "full")


def test_all_rows_go_together_where_they_fit_whether_they_are_neighbours_or_not() -> None:
    assert taken(in_slots({0: 4, 1: 9, 2: 1}).take(9)) == ([0, 1, 2], "full")


def test_rows_without_extent_are_neighbours_once() -> None:
    batcher = Batcher(3, 10 * MS, 16, place=lambda order: Place((7,), (7,)))
    for request in range(4):
        batcher.add(order(request), request)
    closed = batcher.take(9)
    assert closed is not None
    numbers = [row.order.request for row in closed.rows]
    assert numbers[0] == 0
    assert len(set(numbers)) == 3
    assert taken(batcher.take(11 * MS)) == (sorted({0, 1, 2, 3} - set(numbers)), "delay")


@pytest.mark.parametrize("gather", [True, False])
def test_forming_a_batch_looks_at_no_place_twice(gather: bool) -> None:
    """However many wait: at a worker of a GPU they are hundreds."""
    asked = []

    def place(order: Order) -> Place:
        asked.append(order.request)
        return Place((3 * order.request,), (3 * order.request + 1,))

    batcher = Batcher(4, 0, 256, place=place, gather=gather)
    for request in range(256):
        batcher.add(order(request), request)
    while batcher.take(1000) is not None:
        pass
    assert len(asked) == len(set(asked)) >= 252


def test_without_gathering_only_neighbours_share_a_batch() -> None:
    batcher = in_slots({0: 4, 1: 9, 2: 5, 3: 10, 4: 11, 5: 20}, gather=False)
    assert taken(batcher.take(9)) == ([1, 3, 4], "full")
    assert batcher.take(9) is None
    assert batcher.wake_at() == 10 * MS
    assert taken(batcher.take(10 * MS)) == ([0, 2], "delay")
    batcher.add(order(4), 10 * MS)  # a neighbour of no order that is here
    assert taken(batcher.take(10 * MS + 5)) == ([5], "delay")


def test_without_gathering_a_long_run_is_parted_and_its_rest_stays() -> None:
    batcher = in_slots({0: 6, 1: 4, 2: 5, 3: 7, 4: 8}, gather=False, max_size=3, delay_ms=0)
    batches = [taken(batcher.take(9)) for _ in range(3)]
    assert batches == [([0, 3, 4], "full"), ([1, 2], "drained"), None]


class InboxMachine(RuleBasedStateMachine):
    """Every order that is added comes out once, with its kind alone and the oldest of it first, unless it was fenced."""

    gather = True
    forms = 1

    def __init__(self) -> None:
        super().__init__()
        self.max_size, self.delay, self.credits = 3, 5, 6
        self.slots: dict[int, int] = {}
        self.batcher = Batcher(
            self.max_size, self.delay, self.credits, form=self.form, place=self.place, gather=self.gather
        )
        self.now = 0
        self.next = 0
        self.model: list[tuple[Order, int]] = []
        self.fenced: set[int] = set()

    def form(self, order: Order) -> int:
        return order.request % self.forms

    def place(self, order: Order) -> Place:
        slot = self.slots[order.request]
        return Place((slot,), (slot + 1,))

    def kind(self, order: Order) -> tuple[int, int]:
        return order.group, self.form(order)

    @rule(
        deadline=st.sampled_from([0, 0, 0, 3, 30]),
        group=st.sampled_from([0, 0, 0, 1, 2]),
        slot=st.integers(0, 7),
    )
    def add(self, deadline: int, group: int, slot: int) -> None:
        held = {self.slots[known.request] for known, _ in self.model}
        if slot in held or sum(known.group == group for known, _ in self.model) >= (self.max_size if group else self.credits):
            return
        made = order(self.next, deadline=deadline and self.now + deadline, group=group)
        self.slots[self.next] = slot
        self.next += 1
        assert self.batcher.add(made, self.now) == (made.request not in self.fenced)
        if made.request not in self.fenced:
            self.model.append((made, self.now))

    @rule(back=st.integers(-3, 8))
    def fence(self, back: int) -> None:
        """One that is here, has gone, or will come."""
        request = max(0, self.next - back)
        self.fenced.add(request)
        self.batcher.fence(request, 0)
        self.model = [known for known in self.model if known[0].request != request]

    @rule(passed=st.integers(0, 4))
    def wait(self, passed: int) -> None:
        self.now += passed

    @rule()
    def take(self) -> None:
        closed = self.batcher.take(self.now)
        if closed is None:
            if self.model:
                wake = self.batcher.wake_at()
                assert wake is not None
                assert wake > self.now, "the worker would not ask again"
                assert self.model[0][1] + self.delay > self.now, "the oldest starves"
            return
        rows = [row.order for row in closed.rows]
        assert closed.reason in CLOSE_REASONS
        assert 1 <= len(rows) <= self.max_size
        kinds = {self.kind(row) for row in rows}
        assert len(kinds) == 1
        _, arrived = self.model[0]
        if self.now - arrived >= self.delay:
            assert min(row.arrived for row in closed.rows) == arrived, "the oldest was overtaken when it was overdue"
        alike = [known for known, _ in self.model if self.kind(known) in kinds]
        slots = sorted(self.slots[row.request] for row in rows)
        if not self.gather:
            assert slots == list(range(slots[0], slots[0] + len(slots)))
        elif len(alike) <= self.max_size:
            assert rows == alike
        else:
            assert len(rows) == self.max_size
            assert rows[0] == alike[0]
        self.model = [known for known in self.model if known[0] not in rows]

    @invariant()
    def the_same_wait(self) -> None:
        assert len(self.batcher) == len(self.model)

    def teardown(self) -> None:
        self.batcher.draining = True
        while self.model:
            before = len(self.model)
            self.take()
            assert len(self.model) < before


class FormsMachine(InboxMachine):
    forms = 3


class NeighboursMachine(InboxMachine):
    gather = False
    forms = 2


TestInboxMachine = InboxMachine.TestCase
TestFormsMachine = FormsMachine.TestCase
TestNeighboursMachine = NeighboursMachine.TestCase
