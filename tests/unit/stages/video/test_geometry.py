from __future__ import annotations

import numpy as np
import pytest

from stages.video.geometry import foot, inside, overlaps, suppressed

UNIT = np.array([0, 0, 1, 1], np.float32)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([0, 0, 1, 1], 1),
        ([0, 0.5, 1, 1.5], 1 / 3),
        ([0.5, 0.5, 1.5, 1.5], 1 / 7),
        ([0, 1, 1, 2], 0),
        ([2, 2, 3, 3], 0),
        ([0.25, 0.25, 0.75, 0.75], 1 / 4),
    ],
)
def test_boxes_overlap_by_what_they_share_of_both(other: list[float], expected: float) -> None:
    assert overlaps(UNIT, np.array([other]))[0, 0] == pytest.approx(expected)


def test_a_box_without_area_overlaps_nothing_itself_included() -> None:
    assert overlaps(np.zeros(4), np.array([[0, 0, 0, 0], [0, 0, 1, 1], [-1, -1, -2, -2]])).tolist() == [[0, 0, 0]]


def test_each_box_is_compared_with_each_other_one() -> None:
    found = overlaps(np.array([[0, 0, 1, 1], [5, 5, 6, 6]]), np.array([[5, 5, 6, 6], [0, 0, 1, 1], [9, 9, 10, 10]]))
    assert found.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_of_boxes_of_one_class_that_overlap_much_the_best_stays() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]])
    assert suppressed(boxes, np.array([0.5, 0.9, 0.6, 0.7]), np.zeros(4), 0.5, 10) == [1, 3]
    # The second and the third box share 0.8: less than is allowed.
    assert suppressed(boxes, np.array([0.5, 0.9, 0.6, 0.7]), np.zeros(4), 0.85, 10) == [1, 3, 2]


def test_boxes_of_other_classes_stay_and_no_more_than_asked_for() -> None:
    boxes, scores = np.array([[0, 0, 1, 1]] * 3), np.array([0.5, 0.9, 0.7])
    assert suppressed(boxes, scores, np.array([1, 2, 1]), 0.5, 10) == [1, 2]
    assert suppressed(boxes, scores, np.array([1, 2, 3]), 0.5, 2) == [1, 2]
    assert suppressed(boxes[:0], scores[:0], scores[:0], 0.5, 2) == []


@pytest.mark.parametrize("most", [7, 1000])
def test_of_many_boxes_those_stay_that_stay_if_they_are_looked_at_one_by_one(most: int) -> None:
    random = np.random.default_rng(1)
    corners = random.random((500, 2))
    boxes = np.hstack([corners, corners + 0.2 * random.random((500, 2))])
    scores, classes = random.random(500), random.integers(0, 2, 500)
    expected: list[int] = []
    for box in np.argsort(-scores).tolist():
        better = [other for other in expected if classes[other] == classes[box]]
        if not (overlaps(boxes[box], boxes[better]) > 0.3).any():
            expected.append(box)
    assert len(expected) > 200
    assert suppressed(boxes, scores, classes, 0.3, most) == expected[:most]


def test_of_equal_scores_the_first_stays() -> None:
    assert suppressed(np.array([[0, 0, 1, 1]] * 2), np.array([0.5, 0.5]), np.zeros(2), 0.5, 10) == [0]


def test_a_thing_stands_at_the_middle_of_its_lower_edge() -> None:
    assert foot((0.1, 0.2, 0.5, 0.4)) == (pytest.approx(0.3), 0.5)


SQUARE = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]
#: An L: the upper right quarter is not part of it.
CORNER = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize(
    ("x", "y", "polygon", "expected"),
    [
        (0.5, 0.5, SQUARE, True),
        (0.1, 0.5, SQUARE, False),
        (0.9, 0.5, SQUARE, False),
        (0.5, 0.1, SQUARE, False),
        (0.5, 0.9, SQUARE, False),
        (0.25, 0.25, CORNER, True),
        (0.75, 0.75, CORNER, True),
        (0.25, 0.75, CORNER, True),
        (0.75, 0.25, CORNER, False),
    ],
)
def test_a_point_is_inside_or_not(x: float, y: float, polygon: list[tuple[float, float]], expected: bool) -> None:
    assert inside(x, y, polygon) is expected
    assert inside(x, y, polygon[::-1]) is expected


def test_a_line_through_a_corner_counts_it_once() -> None:
    diamond = [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)]
    assert inside(0.5, 0.5, diamond)
    assert not inside(1.5, 0.5, diamond)


def test_two_zones_side_by_side_share_no_point_and_leave_none_out() -> None:
    left, right = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)], [(0.5, 0), (1, 0), (1, 1), (0.5, 1)]
    for x in (0.0, 0.25, 0.5, 0.75):
        assert inside(x, 0.5, left) != inside(x, 0.5, right)
