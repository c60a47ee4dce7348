"""A driver whose run is replaced by a new version: who waits until the client is there, and how long it is on its way."""

from __future__ import annotations

import pytest

from pipeline.client import carrier
from pipeline.client.access import Joined
from pipeline.wire.messages import Answers
from shm.view import SegmentTable
from tests.unit.pipeline.client.steps import Steps
from tests.unit.pipeline.client.talk import POOLS, SECOND, WELCOME, ok
from tests.unit.pipeline.client.test_driver import under_way

REPLACED = Answers(1, (), (), 0, "demo-2")


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A driver that has been let in, and has nothing to do."""
    monkeypatch.setattr(carrier, "join", lambda welcome: Joined(welcome.interface, SegmentTable(), POOLS))
    steps = Steps()
    steps.driver.open(steps.now + SECOND, patient=False)
    steps.step()
    steps.step(WELCOME)
    assert steps.driver.connected
    return steps


def replace(steps: Steps) -> None:
    """As the folder of the run says it, before any message has come."""
    steps.access.is_over = steps.access.is_replaced = True


def test_who_wants_the_run_that_serves_now_waits_until_the_client_has_moved_there(connected: Steps) -> None:
    replace(connected)
    any_run = connected.driver.open(connected.now + 5 * SECOND, patient=True)
    opening = connected.driver.open(connected.now + 5 * SECOND, patient=True, current=True)
    connected.step()
    assert (any_run.done, opening.done) == (True, False)
    connected.step(REPLACED)
    connected.access.is_replaced = False
    assert not opening.done
    connected.step(WELCOME)
    assert opening.done
    assert opening.error is None


def test_who_wants_the_run_that_serves_now_does_not_wait_if_it_is_there_already(connected: Steps) -> None:
    opening = connected.driver.open(connected.now + 5 * SECOND, patient=True, current=True)
    connected.step()
    assert opening.done


def test_the_wait_for_the_run_that_serves_now_has_an_end(connected: Steps) -> None:
    replace(connected)
    opening = connected.driver.open(connected.now + SECOND, patient=True, current=True)
    connected.until(lambda: opening.done)
    assert opening.error is not None
    assert connected.now >= opening.end


def test_a_client_is_on_its_way_from_the_word_of_the_folder_until_it_is_let_in(connected: Steps) -> None:
    assert not connected.driver.moves(connected.now)
    replace(connected)
    assert connected.driver.moves(connected.now)
    connected.step(REPLACED)
    connected.access.is_over = connected.access.is_replaced = False
    assert not connected.driver.connected
    assert connected.driver.moves(connected.now)
    connected.step(WELCOME)
    assert not connected.driver.moves(connected.now)


def test_while_something_is_under_way_in_the_old_version_a_client_is_not_on_its_way(connected: Steps) -> None:
    sent = under_way(connected)
    replace(connected)
    connected.access.is_over = False
    assert not connected.driver.moves(connected.now)
    connected.step(Answers(1, (ok(sent.pending.tag),), (), 0))
    assert connected.driver.moves(connected.now)


def test_what_was_under_way_in_an_old_version_that_is_gone_keeps_no_client_there(connected: Steps) -> None:
    under_way(connected)
    replace(connected)
    connected.access.scheduler_is_gone = True
    assert connected.driver.moves(connected.now)


def test_a_client_that_has_lost_an_old_version_without_its_word_is_on_its_way_for_as_long_as_its_patience(
    connected: Steps,
) -> None:
    replace(connected)
    connected.access.scheduler_is_gone = True
    connected.access.there = False
    opening = connected.driver.open(connected.now + SECOND // 10, patient=True, current=True)
    connected.until(lambda: not connected.driver.connected)
    lost_at = connected.now
    connected.until(lambda: opening.done)
    assert connected.driver.moves(lost_at + 5 * SECOND - 1)
    assert not connected.driver.moves(lost_at + 5 * SECOND)


def test_a_client_that_has_lost_its_run_for_another_reason_is_not_on_its_way(connected: Steps) -> None:
    connected.access.is_over = connected.access.scheduler_is_gone = True
    connected.access.there = False
    opening = connected.driver.open(connected.now + SECOND // 10, patient=True, current=True)
    connected.until(lambda: opening.done)
    assert not connected.driver.connected
    assert not connected.driver.moves(connected.now)
