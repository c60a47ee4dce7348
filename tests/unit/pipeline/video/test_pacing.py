"""Which frames are wanted."""

from __future__ import annotations

import pytest

from pipeline.video.pacing import Pacing


@pytest.mark.parametrize(("camera", "fps", "wanted"), [(25, 5, 50), (25, 10, 100), (30, 7, 70), (10, 30, 100), (25, 25, 250)])
def test_as_many_frames_are_wanted_as_the_config_says_and_no_rate_drifts(camera: int, fps: float, wanted: int) -> None:
    pacing = Pacing(fps)
    found = sum(pacing.wants(number / camera) for number in range(10 * camera))
    assert found == pytest.approx(wanted, abs=1)


def test_all_frames_are_wanted_if_the_config_does_not_say() -> None:
    pacing = Pacing(0.0)
    assert all(pacing.wants(0.0) for _ in range(5))


def test_times_that_are_rounded_to_the_streams_clock_lose_no_frame() -> None:
    # 33 ms, 67 ms, 100 ms ...: a third of them is a little early.
    pacing = Pacing(30.0)
    assert all(pacing.wants(round(number / 30, 3)) for number in range(300))


@pytest.mark.parametrize("jump", [-1000.0, 1000.0])
def test_after_a_jump_of_the_streams_clock_the_grid_begins_anew(jump: float) -> None:
    pacing = Pacing(1.0)
    assert [pacing.wants(5.0), pacing.wants(5.5), pacing.wants(5.0 + jump), pacing.wants(5.5 + jump)] == [True, False, True, False]


def test_after_a_gap_there_is_no_burst() -> None:
    pacing = Pacing(1.0)
    pacing.wants(0.0)
    assert [pacing.wants(7.0 + step / 10) for step in range(12)] == [True, *[False] * 9, True, False]
