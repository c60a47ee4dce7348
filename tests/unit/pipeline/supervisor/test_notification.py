"""What the service manager is told, and when, without a process."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.supervisor.notification import Notification, View
from pipeline.supervisor.supervision import Phase

STARTING = View(Phase.STARTING, ready=1, children=3, asked=True)
RUNNING = replace(STARTING, phase=Phase.RUNNING, ready=3)
RELOADING = replace(RUNNING, reloading=True)
DRAINING = replace(RUNNING, phase=Phase.DRAINING, stopping=True)
STOPPING = replace(RUNNING, phase=Phase.STOPPING, stopping=True, asked=False)


def states(told: list[str]) -> list[str]:
    return [text for text in told if not text.startswith(("STATUS=", "EXTEND"))]


def test_ready_is_told_once_and_only_when_every_stage_is_ready() -> None:
    notification = Notification(None)
    assert notification.turn(STARTING, 0.0) == ["STATUS=starting: 1 of 3 processes are ready"]
    assert notification.turn(replace(STARTING, ready=2), 1.0) == ["STATUS=starting: 2 of 3 processes are ready"]
    assert notification.turn(RUNNING, 2.0) == ["READY=1", "STATUS=serving"]
    assert notification.turn(RUNNING, 3.0) == []


def test_a_reload_is_told_with_its_time_and_ends_with_ready() -> None:
    notification = Notification(None)
    notification.turn(RUNNING, 1.0)
    assert notification.turn(RELOADING, 2.5) == [
        "RELOADING=1\nMONOTONIC_USEC=2500000", "STATUS=serving; a new version starts",
    ]  # fmt: skip
    taken_over = replace(RUNNING, phase=Phase.STOPPED, version="demo-12")
    assert notification.turn(taken_over, 3.0) == ["READY=1", "STATUS=serving, in demo-12"]


def test_a_reload_that_fails_ends_with_ready_too() -> None:
    notification = Notification(None)
    notification.turn(RUNNING, 1.0)
    notification.turn(RELOADING, 2.0)
    assert notification.turn(RUNNING, 3.0) == ["READY=1", "STATUS=serving"]


@pytest.mark.parametrize("before", [STARTING, RUNNING, RELOADING])
def test_the_end_is_told_whatever_came_before(before: View) -> None:
    notification = Notification(None)
    notification.turn(before, 1.0)
    assert states(notification.turn(replace(before, phase=Phase.DRAINING, stopping=True), 2.0)) == ["STOPPING=1"]
    # A version that had not yet taken over does not make it ready again.
    assert states(notification.turn(replace(RUNNING, version="demo-12"), 3.0)) == []


def test_while_it_ends_it_asks_for_more_time_again_and_again() -> None:
    notification = Notification(None)
    notification.turn(RUNNING, 0.0)
    told = [notification.turn(DRAINING, now) for now in (10.0, 11.0, 12.0, 13.0)]
    assert [any("EXTEND_TIMEOUT_USEC=10000000" in text for text in texts) for texts in told] == [True, False, True, False]


# -- the watchdog -----------------------------------------------------------------------------------


def running(watchdog_s: float | None = 4.0) -> Notification:
    notification = Notification(watchdog_s)
    notification.turn(RUNNING, 100.0)
    return notification


def test_the_scheduler_is_not_asked_if_there_is_no_watchdog() -> None:
    notification = running(None)
    assert (notification.look(RUNNING, 200.0), notification.wake_at) == (None, None)


def test_the_scheduler_is_not_asked_before_the_run_is_ready() -> None:
    notification = Notification(4.0)
    notification.turn(STARTING, 0.0)
    assert (notification.look(STARTING, 50.0), notification.wake_at) == (None, None)


def test_the_scheduler_is_asked_four_times_in_the_watchdog_s_time() -> None:
    notification = running()
    asked = [notification.look(RUNNING, 100 + quarter / 4) for quarter in range(9)]
    assert asked == [1, None, None, None, 2, None, None, None, 3]
    assert notification.wake_at == 103.0


def test_it_is_well_when_the_scheduler_has_answered_and_not_before() -> None:
    notification = running()
    assert notification.look(RUNNING, 100.0) == 1
    assert notification.turn(RUNNING, 100.5) == []
    assert notification.answered(1) == ["WATCHDOG=1"]


def test_a_scheduler_that_hangs_is_not_well_however_long_it_is_asked() -> None:
    notification = running()
    told = [notification.look(RUNNING, 100.0 + second) for second in range(60)]
    assert "WATCHDOG=1" not in told
    assert not any("WATCHDOG=1" in notification.turn(RUNNING, 160.0 + second) for second in range(60))


def test_each_answer_counts_once_and_one_that_was_not_asked_for_not_at_all() -> None:
    notification = running()
    notification.look(RUNNING, 100.0)
    notification.look(RUNNING, 101.0)
    assert notification.answered(2) == ["WATCHDOG=1"]
    assert [notification.answered(number) for number in (2, 1, 3, 0, -1)] == [[], [], [], [], []]


def test_without_a_scheduler_it_is_well_since_the_supervisor_brings_it_back() -> None:
    notification = running()
    assert notification.look(replace(RUNNING, asked=False), 100.0) == "WATCHDOG=1"


def test_it_is_asked_during_a_reload_and_a_drain_too() -> None:
    notification = running()
    for number, view in enumerate((RELOADING, DRAINING, replace(RUNNING, version="demo-12")), start=1):
        assert notification.look(view, 100.0 + number) == number
    assert notification.look(STOPPING, 110.0) == "WATCHDOG=1"
