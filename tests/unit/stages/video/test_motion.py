from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stages.video.motion import MotionDetector, MotionOptions, Movement, cells_of

EMPTY = np.full((20, 30), 100, np.float32)


def with_thing(column: int, brightness: float = 200, rows: slice = slice(8, 14)) -> np.ndarray:
    cells = EMPTY.copy()
    cells[rows, column : column + 3] = brightness
    return cells


def looks(detector: MotionDetector, frames: Sequence[np.ndarray], start: float = 0.0, every: float = 0.2) -> list[bool]:
    return [detector.step(cells, start + number * every).look for number, cells in enumerate(frames)]


def settled(**options: object) -> MotionDetector:
    """A detector that has seen nothing but the empty picture for a minute."""
    detector = MotionDetector(MotionOptions(**{"every_s": 1e6, **options}))  # type: ignore[arg-type]
    looks(detector, [EMPTY] * 60, start=-60, every=1.0)
    return detector


def test_the_first_frames_of_a_stream_are_looked_at() -> None:
    assert looks(MotionDetector(MotionOptions(linger_s=1.0)), [EMPTY] * 7) == [True] * 5 + [False] * 2


def test_a_frame_in_which_something_moves_is_looked_at_and_those_after_it_for_a_while() -> None:
    detector = settled(linger_s=1.0, settle_s=0.01)
    assert looks(detector, [EMPTY] * 2, every=0.25) == [False] * 2
    assert looks(detector, [with_thing(5)], start=0.5) == [True]
    # The thing stands where it was: the background has it.
    assert looks(detector, [with_thing(5)] * 6, start=0.75, every=0.25) == [True] * 3 + [False] * 3


def test_a_thing_that_has_stopped_is_looked_at_for_a_few_seconds_more() -> None:
    detector = settled()
    looked = looks(detector, [with_thing(5)] * 60)
    # Two seconds until the background has it, and three seconds after that.
    assert 20 < sum(looked) < 30
    assert looked == sorted(looked, reverse=True)


def test_a_thing_that_creeps_is_looked_at_all_the_time() -> None:
    # A cell, a thirtieth of the picture's width, in three seconds.
    cells = [EMPTY.copy() for _ in range(150)]
    for number, picture in enumerate(cells):
        whole, part = divmod(number / 15, 1)
        picture[8:14, 5 + int(whole) : 8 + int(whole)] = 200
        picture[8:14, 5 + int(whole)] = 200 - 100 * part
        picture[8:14, 8 + int(whole)] = 100 + 100 * part
    assert all(looks(settled(), cells))


def test_a_thing_that_moves_on_and_on_is_looked_at_all_the_time() -> None:
    assert all(looks(settled(linger_s=0), [with_thing(column) for column in range(25)]))


def test_a_thing_that_leaves_is_movement_too() -> None:
    detector = settled(linger_s=0)
    looks(detector, [with_thing(5)] * 200, every=1.0)
    assert not detector.step(with_thing(5), 201.0).look
    assert detector.step(EMPTY, 202.0).look


@pytest.mark.parametrize("light", [-60, -8, 8, 60])
def test_light_that_changes_in_all_of_the_picture_is_no_movement(light: float) -> None:
    detector = settled()
    assert detector.step(EMPTY + light, 0.0) == Movement(False, 0.0)
    # And what moves is seen in the same frame.
    assert detector.step(with_thing(5) + light / 2, 0.2).look


def test_the_noise_of_a_camera_is_no_movement() -> None:
    random, detector = np.random.default_rng(3), settled()
    assert not any(looks(detector, [EMPTY + random.normal(0, 3, EMPTY.shape).astype(np.float32) for _ in range(50)]))


def test_a_thing_that_is_too_small_is_no_movement() -> None:
    detector = settled(area=0.05)
    movement = detector.step(with_thing(5), 0.0)
    assert movement.share == pytest.approx(18 / 600)
    assert not movement.look
    assert detector.step(with_thing(5, rows=slice(0, 20)), 0.2).look


def test_a_difference_below_the_threshold_is_no_movement() -> None:
    assert not settled(threshold=30).step(with_thing(5, 125), 0.0).look
    assert settled(threshold=20).step(with_thing(5, 125), 0.0).look


def test_movement_in_a_mask_does_not_count() -> None:
    detector = settled(masks=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),))
    assert detector.step(with_thing(5), 0.0) == Movement(False, 0.0)
    movement = detector.step(with_thing(20), 0.2)
    assert movement.look
    assert movement.share == pytest.approx(18 / 300)


def test_a_picture_that_is_all_mask_never_moves() -> None:
    detector = settled(masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
    assert detector.step(with_thing(5), 0.0) == Movement(False, 0.0)


def test_now_and_then_frames_are_looked_at_although_nothing_moves() -> None:
    detector = MotionDetector(MotionOptions(linger_s=2, every_s=10))
    looked = looks(detector, [EMPTY] * 24, every=1.0)
    assert [second for second, look in enumerate(looked) if look] == [0, 1, 11, 12, 22, 23]


def test_a_clock_that_is_put_back_neither_looks_nor_sleeps_for_hours() -> None:
    detector = MotionDetector(MotionOptions(linger_s=2, every_s=10))
    looks(detector, [EMPTY] * 2, start=7200.0, every=1.0)
    looked = looks(detector, [EMPTY] * 15, start=0.0, every=1.0)
    assert [second for second, look in enumerate(looked) if look] == [0, 1, 11, 12]


def test_pictures_of_another_size_begin_anew() -> None:
    detector = settled()
    assert detector.step(np.full((10, 30), 100, np.float32), 0.0).look


def test_cells_are_the_mean_of_what_they_cover() -> None:
    frame = np.zeros((80, 160, 3), np.uint8)
    frame[40:, 80:, 1] = 200
    assert cells_of(frame, 4).tolist() == [[0, 0, 0, 0], [0, 0, 200, 200]]


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (7, 5), (1, 1), (3, 4000)])
def test_a_frame_of_any_size_has_cells(height: int, width: int) -> None:
    cells = cells_of(np.full((height, width, 3), 77, np.uint8), 64)
    assert cells.shape == (max(1, round(64 * height / width)), 64)
    assert (cells == 77).all()
