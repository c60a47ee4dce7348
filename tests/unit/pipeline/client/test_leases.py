"""What a client has borrowed comes back when the last reference to it is gone, and the client says so once."""

from __future__ import annotations

import gc

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
