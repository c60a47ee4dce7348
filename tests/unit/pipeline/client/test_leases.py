"""What a client has borrowed comes back when the last reference to it is gone, and the client says so once."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from pipeline.client.leases import Lease, Leases
from pipeline.wire.messages import Bye, SlotRef, Submission, Submit

ME = 7


class Reporting(Leases):
    """Sends at once what it may."""

    def __init__(self) -> None:
        super().__init__(ME)
        self.said: list[Submit] = []

    def settle(self) -> None:
        while (message := self.message()) is not None:
            self.said.append(message)
            self.sent(message)


def slot(number: int) -> SlotRef:
    return SlotRef(9, number, 1)


def lease_of(leases: Leases, number: int) -> Lease:
    lease = Lease(slot(number), leases)
    leases.arm(lease)
    return lease


def test_a_lease_that_is_gone_is_said_at_once_if_nothing_is_under_way() -> None:
    leases = Reporting()
    lease = lease_of(leases, 0)
    assert (leases.count, leases.said) == (1, [])
    del lease
    assert leases.said == [Submit(ME, 0, (), (slot(0),))]
    assert leases.count == 0
    assert leases.empty


class Unread:
    """So many answers are still to be read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def are(self, count: int) -> bool:
        return self.count >= count


def test_a_caller_that_reads_a_row_of_answers_says_so_in_few_messages_and_keeps_back_no_more_than_it_still_holds() -> None:
    leases = Reporting()
    leases.unread = unread = Unread(16)
    rows = [lease_of(leases, number) for number in range(16)]
    while rows:
        unread.count -= 1
        del rows[0]
        assert len(leases._epoch.dropped) <= unread.count
    assert [len(message.releases) for message in leases.said] == [9, 4, 2, 1]


def test_while_a_caller_waits_for_a_slot_each_is_said_at_once() -> None:
    leases = Reporting()
    leases.unread, leases.short = Unread(16), True
    lease = lease_of(leases, 0)
    del lease
    assert len(leases.said) == 1


def test_while_something_is_under_way_it_goes_with_the_next_message() -> None:
    leases = Reporting()
    leases.idle, leases.seen = False, 5
    lease = lease_of(leases, 0)
    kept = lease_of(leases, 1)
    del lease
    assert leases.said == []
    assert leases.dropped
    request = Submission(1, slot(5), (), 0, 0, "")
    message = leases.message([request], [slot(2)])
    assert message == Submit(ME, 5, (request,), (slot(2), slot(0)))
    # It is said again until it was sent.
    assert leases.message() == Submit(ME, 5, (), (slot(0),))
    leases.sent(message)
    assert leases.message() is None
    assert not leases.empty
    assert kept.armed


def test_what_is_gone_since_a_message_was_made_is_in_the_next_one() -> None:
    leases = Reporting()
    leases.idle = False
    first, second = lease_of(leases, 0), lease_of(leases, 1)
    del first
    message = leases.message()
    assert message is not None
    del second
    leases.sent(message)
    assert leases.message() == Submit(ME, 0, (), (slot(1),))


def test_leases_that_one_call_drops_share_a_message() -> None:
    leases = Reporting()
    held = [lease_of(leases, number) for number in range(3)]
    leases.held = True
    held.clear()
    assert leases.said == []
    leases.held = False
    leases.settle_idle()
    assert [sorted(message.releases) for message in leases.said] == [[slot(0), slot(1), slot(2)]]


def test_a_lease_that_was_not_armed_gives_nothing_back_and_arming_twice_gives_back_once() -> None:
    leases = Reporting()
    lease = Lease(slot(0), leases)
    del lease
    assert leases.said == []
    lease = lease_of(leases, 1)
    leases.arm(lease)
    del lease
    assert leases.said == [Submit(ME, 0, (), (slot(1),))]


def test_leases_of_a_dead_scheduler_are_no_more() -> None:
    leases = Reporting()
    leases.seen = 4
    before = lease_of(leases, 0)
    leases.renew()
    assert (leases.count, leases.seen, leases.idle) == (0, 0, True)
    del before
    assert leases.said == []


def test_a_goodbye_names_what_is_still_read() -> None:
    leases = Reporting()
    kept, dropped = lease_of(leases, 0), lease_of(leases, 1)
    leases.idle = False
    del dropped
    assert leases.goodbye() == Bye(ME, (slot(0),))
    assert kept.armed


@pytest.mark.parametrize("turn", range(3))
def test_a_lease_in_a_circle_is_given_back_by_the_collector(turn: int) -> None:
    leases = Reporting()
    circle: list[object] = [lease_of(leases, turn)]
    circle.append(circle)
    del circle
    gc.collect()
    assert leases.said == [Submit(ME, 0, (), (slot(turn),))]


def arrays_over(*memories: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """As an application gets them: each a view of the array that is made for its input."""
    return [memory.view()[...] for memory in memories]


def test_a_slot_that_may_be_written_is_kept_until_the_last_array_on_it_is_gone() -> None:
    leases = Reporting()
    x, y = arrays_over(np.ndarray(8, np.uint8, bytearray(8)), np.ndarray(8, np.uint8, bytearray(8)))
    leases.keep(slot(0), [x, y])
    assert leases.goodbye() == Bye(ME, (slot(0),))
    part = y[2:4][1:]
    del x, y
    assert (leases.said, leases.empty) == ([], False)
    del part
    assert (leases.said, leases.empty) == ([Submit(ME, 0, (), (slot(0),))], True)


def test_a_slot_whose_arrays_are_all_gone_is_given_back_at_once() -> None:
    leases = Reporting()
    leases.keep(slot(0), arrays_over(np.ndarray(8, np.uint8, bytearray(8))))
    assert leases.said == [Submit(ME, 0, (), (slot(0),))]


def test_arrays_with_equal_elements_are_told_apart() -> None:
    leases = Reporting()
    arrays = arrays_over(np.ndarray(8, np.uint8, bytearray(8)), np.ndarray(8, np.uint8, bytearray(8)))
    for number, array in enumerate(arrays):
        leases.keep(slot(number), [array])
    del array
    arrays.pop(0)
    assert leases.said == [Submit(ME, 0, (), (slot(0),))]


@pytest.mark.parametrize(("slots", "most"), [(0, 1), (8, 1), (15, 1), (16, 2), (64, 8)])
def test_results_are_on_an_eighth_of_the_slots_at_most_and_on_one_at_least(slots: int, most: int) -> None:
    leases = Leases(ME)
    leases.limit_reading([slots])
    held = []
    for number in range(most):
        assert not leases.read_enough()
        held.append(lease_of(leases, number))
        # Answers that were not read do not count.
        lease_of(leases, 100 + number)
        leases.reads(held[-1])
        # Also if another array is made on it.
        leases.reads(held[-1])
    assert leases.read_enough()
    held.pop()
    assert not leases.read_enough()


def test_results_of_several_rows_have_an_eighth_of_their_own_slots() -> None:
    leases = Leases(ME)
    leases.limit_reading([16, 4], by_rows=True)
    one = lease_of(leases, 0)
    one.several = True
    leases.reads(one)
    assert leases.read_enough(True)
    assert not leases.read_enough(False)
    others = [lease_of(leases, number) for number in (1, 2)]
    for lease in others:
        leases.reads(lease)
    assert leases.read_enough(False)
    del one
    assert not leases.read_enough(True)
    assert leases.read_enough(False)
    # Those of a scheduler that is gone are on none of the next one's slots.
    leases.renew()
    leases.limit_reading([8])
    assert not leases.read_enough(False)
    late = lease_of(leases, 9)
    leases.renew()
    leases.reads(late)
    assert not leases.read_enough(False)
