from __future__ import annotations

import random

import numpy as np
import pytest

from stages.errors import BadInput
from stages.ocr.boxes import FindBoxes, reading_order
from stages.testing import run


def rectangle(left: float, top: float, width: float = 80, height: float = 20) -> list[list[float]]:
    return [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]


def found(stage: FindBoxes, probability: np.ndarray, size: tuple[int, int]) -> list[list[list[int]]]:
    boxes: list[list[list[int]]] = run(stage, probability=[probability[None]], size=[np.int32(size)]).result(0, "boxes")
    return boxes


def test_boxes_are_in_pixels_of_the_picture() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[20:30, 40:90] = 0.9
    assert found(FindBoxes(grow=0), probability, (256, 320)) == [[[80, 100], [180, 100], [180, 150], [80, 150]]]


def test_boxes_end_where_the_picture_ends() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[0:12, 90:128] = 0.9
    ((_, right, _, _),) = found(FindBoxes(grow=2), probability, (128, 64))
    assert right == [128, 0]


def test_a_page_without_text_has_no_boxes() -> None:
    assert found(FindBoxes(), np.zeros((32, 32), np.float32), (32, 32)) == []


def test_what_has_no_pixel_of_the_picture_to_itself_is_left_out() -> None:
    probability = np.zeros((320, 320), np.float32)
    probability[84:88, 84:88] = 0.9
    assert found(FindBoxes(grow=0), probability, (8, 8)) == []


def test_a_page_of_too_many_boxes_fails_and_says_what_to_change() -> None:
    probability = np.zeros((64, 64), np.float32)
    probability[4:10, 4:60] = probability[20:26, 4:60] = probability[40:46, 4:60] = 0.9
    stage = FindBoxes(max_boxes=2)
    with pytest.raises(BadInput, match=r"3 boxes of text, expected at most 2 \(option max_boxes\)"):
        found(stage, probability, (64, 64))


def test_each_page_of_a_batch_has_its_own_boxes() -> None:
    one, other = np.zeros((1, 32, 64), np.float32), np.zeros((1, 64, 32), np.float32)
    one[0, 8:20, 8:40] = 0.9
    batch = run(FindBoxes(), probability=[one, other], size=[np.int32([64, 32]), np.int32([32, 64])])
    assert [len(batch.result(row, "boxes")) for row in (0, 1)] == [1, 0]


def test_lines_are_read_from_the_top_and_each_from_the_left() -> None:
    # Words of one line lie a little higher and lower, as they do on scanned paper.
    lines = [[(20, 30), (120, 34), (220, 28)], [(20, 60), (130, 57)], [(20, 90)]]
    places = [place for line in lines for place in line]
    boxes = np.array([rectangle(*place) for place in places])
    for seed in range(10):
        order = list(range(len(boxes)))
        random.Random(seed).shuffle(order)
        assert [places[order[index]] for index in reading_order(boxes[order])] == places


@pytest.mark.parametrize("degrees", [-15, -4, 4, 15])
def test_a_page_aslant_is_read_in_the_same_order(degrees: float) -> None:
    boxes = np.array([rectangle(100 * column, 30 * line) for line in range(6) for column in range(5)])
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    assert reading_order(boxes @ np.array([[cos, -sin], [sin, cos]])) == list(range(30))


def test_no_boxes_have_an_order() -> None:
    assert reading_order(np.zeros((0, 4, 2))) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_fails_its_page_and_is_no_empty_page(bad: float) -> None:
    probability = np.zeros((2, 1, 64, 64), np.float32)
    probability[0, 0, 3, 4] = bad
    done = run(FindBoxes(), probability=probability, size=[np.int32([64, 64])] * 2)
    with pytest.raises(BadInput, match="the detector's probabilities are not finite"):
        done.result(0, "boxes")
    assert done.result(1, "boxes") == []
