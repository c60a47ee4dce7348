"""When a camera is opened again."""

from __future__ import annotations

import pytest

from pipeline.video.reconnection import FIRST_WAIT_S, LONGEST_WAIT_S, Reconnection
from pipeline.wire.camera import State


def test_the_waits_double_up_to_the_longest_and_chance_takes_a_third_at_most() -> None:
    surely = Reconnection(10.0, lambda: 0.0, 0.0)
    waits = [surely.failed("it is away", now) for now in range(10)]
    assert waits[:4] == [FIRST_WAIT_S, 1.0, 2.0, 4.0]
    assert waits[-1] == LONGEST_WAIT_S
    assert Reconnection(10.0, lambda: 1.0, 0.0).failed("it is away", 0.0) == pytest.approx(FIRST_WAIT_S * 2 / 3)


def test_a_camera_that_gave_frames_for_a_while_is_tried_at_once_and_one_that_fails_each_time_is_not() -> None:
    connection = Reconnection(10.0, lambda: 0.0, 0.0)
    connection.failed("away", 0.0)
    connection.failed("away", 1.0)
    connection.opened(2.0)
    connection.frame(3.0)
    assert connection.failed("away", 4.0) == 2.0
    connection.opened(5.0)
    connection.frame(15.0)
    assert connection.failed("away", 16.0) == FIRST_WAIT_S


def test_it_is_frozen_once_no_frame_has_come_for_the_timeout_and_only_while_it_is_connected() -> None:
    connection = Reconnection(3.0, lambda: 0.0, 0.0)
    assert not connection.frozen(100.0)
    connection.opened(100.0)
    assert (connection.frozen(102.9), connection.frozen(103.0)) == (False, True)
    connection.frame(103.0)
    assert not connection.frozen(105.9)
    connection.failed("it gives no frames", 106.0)
    assert not connection.frozen(200.0)


def test_it_knows_since_when_it_is_away_and_why_it_is_now() -> None:
    connection = Reconnection(3.0, lambda: 0.0, 1.0)
    assert (connection.state, connection.since) == (State.CONNECTING, 1.0)
    connection.failed("nothing came in time", 2.0)
    connection.failed("Connection refused", 5.0)
    assert (connection.state, connection.since, connection.why) == (State.RECONNECTING, 2.0, "Connection refused")
    connection.opened(6.0)
    assert (connection.state, connection.since, connection.why, connection.reconnects) == (State.CONNECTED, 6.0, "", 0)
    connection.failed("the stream has ended", 7.0)
    connection.opened(8.0)
    assert connection.reconnects == 1
    connection.ended(9.0)
    assert (connection.state, connection.since) == (State.ENDED, 9.0)
