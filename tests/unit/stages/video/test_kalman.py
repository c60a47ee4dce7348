from __future__ import annotations

import numpy as np
import pytest

from stages.video.kalman import Motion, begun, box_of, corrected, predicted


def box(y: float, x: float, height: float = 0.2, width: float = 0.1) -> np.ndarray:
    return np.array([y - height / 2, x - width / 2, y + height / 2, x + width / 2])


def followed(boxes: list[np.ndarray], seconds: float = 0.2) -> Motion:
    motion = begun(boxes[0])
    for each in boxes[1:]:
        motion = corrected(predicted(motion, seconds), each)
    return motion


def test_a_thing_begins_where_it_is_seen_and_is_thought_to_stand() -> None:
    motion = begun(box(0.5, 0.4))
    assert box_of(motion) == pytest.approx(box(0.5, 0.4))
    assert box_of(predicted(motion, 1.0)) == pytest.approx(box(0.5, 0.4))


def test_its_speed_is_found_from_where_it_is_seen() -> None:
    motion = followed([box(0.5, 0.1 + 0.02 * frame) for frame in range(10)])
    assert motion.speed == pytest.approx([0, 0.1, 0, 0], abs=0.005)
    assert box_of(predicted(motion, 1.0)) == pytest.approx(box(0.5, 0.38), abs=0.01)


def test_an_error_of_one_frame_moves_it_by_less_than_that() -> None:
    still = followed([box(0.5, 0.5)] * 10)
    jumped = corrected(predicted(still, 0.2), box(0.5, 0.52))
    assert 0.5 < jumped.place[1] < 0.516


def test_what_is_not_seen_is_known_less_and_less() -> None:
    motion = followed([box(0.5, 0.5)] * 5)
    later = [predicted(motion, seconds).place_variance[0] for seconds in (0.1, 0.5, 2.0)]
    assert motion.place_variance[0] < later[0] < later[1] < later[2]


def test_predicting_in_two_steps_moves_as_far_as_in_one() -> None:
    motion = followed([box(0.5, 0.1 + 0.02 * frame) for frame in range(5)])
    twice = predicted(predicted(motion, 0.3), 0.5)
    assert twice.place == pytest.approx(predicted(motion, 0.8).place)
    assert twice.speed == pytest.approx(motion.speed)


def test_variances_stay_above_zero_over_many_frames() -> None:
    motion = followed([box(0.5, 0.5)] * 1000)
    assert (motion.place_variance > 0).all()
    assert (motion.speed_variance > 0).all()
    assert (motion.place_variance * motion.speed_variance > motion.covariance**2).all()


def test_a_box_that_shrinks_never_turns_inside_out() -> None:
    motion = followed([box(0.5, 0.5, 0.2 - 0.03 * frame, 0.2 - 0.03 * frame) for frame in range(6)])
    later = box_of(predicted(motion, 5.0))
    assert later[2] > later[0]
    assert later[3] > later[1]


def test_a_box_without_area_is_followed_as_well() -> None:
    assert np.isfinite(box_of(corrected(predicted(begun(np.zeros(4)), 0.2), np.zeros(4)))).all()
