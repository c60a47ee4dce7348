from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from stages.ocr.regions import text_boxes


def drawn(*rectangles: tuple[int, int, int, int], shape: tuple[int, int] = (96, 160), value: float = 0.9) -> np.ndarray:
    """A map with rectangles (left, top, right, bottom), their ends exclusive."""
    found = np.zeros(shape, np.float32)
    for left, top, right, bottom in rectangles:
        found[top:bottom, left:right] = value
    return found


def aslant(degrees: float, width: int = 120, height: int = 24) -> np.ndarray:
    """A map of 300x300 with one rectangle about its middle, turned against the clock."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)
    radians = np.deg2rad(-degrees)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    page = Image.new("L", (300, 300))
    ImageDraw.Draw(page).polygon([(x, y) for x, y in corners @ turn + 150], fill=1)
    return np.asarray(page, np.float32) * 0.9


def test_a_rectangle_of_the_map_is_found_to_the_pixel() -> None:
    boxes, scores = text_boxes(drawn((30, 20, 110, 32)), grow=0)
    assert boxes.tolist() == [[[30, 20], [110, 20], [110, 32], [30, 32]]]
    assert scores == pytest.approx([0.9])


def test_it_grows_by_area_over_perimeter() -> None:
    (box,), _ = text_boxes(drawn((30, 20, 110, 40)), grow=1.5)
    distance = 1.5 * 80 * 20 / 200
    assert box[0] == pytest.approx([30 - distance, 20 - distance])
    assert box[2] == pytest.approx([110 + distance, 40 + distance])


def test_a_map_without_text_has_no_boxes() -> None:
    boxes, scores = text_boxes(np.zeros((64, 64), np.float32))
    assert boxes.shape == (0, 4, 2)
    assert len(scores) == 0


def test_regions_that_touch_at_a_corner_are_one_and_others_are_not() -> None:
    boxes, _ = text_boxes(drawn((10, 10, 30, 20), (30, 20, 50, 30), (60, 10, 80, 20)), grow=0)
    assert len(boxes) == 2


def test_a_region_that_meets_itself_further_down_is_one() -> None:
    # A U, and another one upside down around it: their arms are parted until the last row.
    boxes, _ = text_boxes(
        drawn((10, 10, 14, 60), (40, 10, 44, 60), (10, 56, 44, 60), (60, 10, 64, 60), (90, 10, 94, 60), (60, 10, 94, 14)),
        grow=0,
    )
    assert sorted(box[0].tolist() for box in boxes) == [[10, 10], [60, 10]]


@pytest.mark.parametrize("degrees", [-40, -20, -5, 5, 20, 40])
def test_text_aslant_gets_a_box_aslant(degrees: float) -> None:
    (box,), _ = text_boxes(aslant(degrees), grow=0)
    right, down = box[1] - box[0], box[3] - box[0]
    assert np.hypot(*right) == pytest.approx(120, abs=2.5)
    assert np.hypot(*down) == pytest.approx(24, abs=2.5)
    assert np.rad2deg(np.arctan2(-right[1], right[0])) == pytest.approx(degrees, abs=1)
    assert box.mean(axis=0) == pytest.approx([150.5, 150.5], abs=1)


@pytest.mark.parametrize("degrees", [70, 90, 110])
def test_text_that_runs_upwards_gets_a_box_that_is_tall(degrees: float) -> None:
    (box,), _ = text_boxes(aslant(degrees), grow=0)
    assert np.hypot(*(box[1] - box[0])) < np.hypot(*(box[3] - box[0]))
    assert box[0][0] < box[1][0]
    assert box[0][1] < box[3][1]


def test_a_region_that_the_detector_is_unsure_of_is_left_out() -> None:
    unsure, sure = drawn((10, 10, 60, 20), value=0.5), drawn((10, 40, 60, 50), value=0.7)
    boxes, scores = text_boxes(unsure + sure, grow=0)
    assert boxes[:, 0].tolist() == [[10, 40]]
    assert scores == pytest.approx([0.7])
    assert len(text_boxes(unsure + sure, score=0.4)[0]) == 2


def test_noise_is_left_out() -> None:
    noise = drawn((10, 10, 12, 12), (50, 10, 150, 12), (30, 30, 33, 32))
    assert len(text_boxes(noise)[0]) == 0


def test_text_at_the_edges_of_the_map_is_found() -> None:
    boxes, _ = text_boxes(drawn((0, 0, 20, 8), (140, 88, 160, 96)), grow=0)
    assert sorted(box[0].tolist() for box in boxes) == [[0, 0], [140, 88]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 60), st.integers(4, 40), st.integers(4, 30)), min_size=1, max_size=8
    )
)
def test_each_region_lies_in_its_box_and_each_box_holds_its_area(rectangles: list[tuple[int, int, int, int]]) -> None:
    found = drawn(*((x, y, x + w, y + h) for x, y, w, h in rectangles))
    boxes, _ = text_boxes(found, grow=0)
    covered = np.zeros(found.shape, bool)
    ys, xs = np.mgrid[: found.shape[0], : found.shape[1]] + 0.5
    area = 0.0
    for box in boxes:
        right, down = box[1] - box[0], box[3] - box[0]
        area += np.hypot(*right) * np.hypot(*down)
        along = ((xs - box[0, 0]) * right[0] + (ys - box[0, 1]) * right[1]) / (right @ right)
        across = ((xs - box[0, 0]) * down[0] + (ys - box[0, 1]) * down[1]) / (down @ down)
        covered |= (along > 0) & (along < 1) & (across > 0) & (across < 1)
    assert covered[found > 0].all()
    assert area >= (found > 0).sum() - 1e-6
