from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from stages.errors import BadInput, BadOption
from stages.ocr.crops import CropBoxes
from stages.testing import MemoryBatch, batch_of, run

Box = list[list[int]]


def upright(left: int, top: int, right: int, bottom: int) -> Box:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def cut(page: np.ndarray, *boxes: Box | list[list[float]], size: tuple[int, int] | None = None, **options: Any) -> list[np.ndarray]:
    size = size or (page.shape[1], page.shape[0])
    crops: list[np.ndarray] = run(
        CropBoxes(**options), page=[page], boxes=[list(boxes)], size=[np.int32(size)]
    ).result(0, "crops")
    return crops


def pixels(crop: np.ndarray) -> np.ndarray:
    """A crop as RGB pixels again."""
    return np.rint((crop[::-1].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)


def test_a_box_of_48_pixels_is_cut_out_as_it_is(noise: np.ndarray) -> None:
    (crop,) = cut(noise, upright(20, 30, 148, 78))
    assert crop.shape == (3, 48, 128)
    assert (pixels(crop) == noise[30:78, 20:148]).all()


def test_blue_comes_first_and_values_go_from_minus_one_to_one() -> None:
    page = np.zeros((48, 64, 3), np.uint8)
    page[..., 0] = 255
    (crop,) = cut(page, upright(0, 0, 64, 48))
    assert crop[:, 0, 0].tolist() == [-1, -1, 1]


def test_beside_the_text_are_zeros_up_to_the_next_step(noise: np.ndarray) -> None:
    (crop,) = cut(noise, upright(10, 10, 110, 58), step=32)
    assert crop.shape == (3, 48, 128)
    assert (crop[:, :, 100:] == 0).all()
    assert (pixels(crop[:, :, :100]) == noise[10:58, 10:110]).all()


def test_narrow_boxes_are_as_wide_as_is_asked_for(noise: np.ndarray) -> None:
    assert cut(noise, upright(10, 10, 50, 58), min_width=160)[0].shape == (3, 48, 160)


def test_wide_boxes_are_pressed_together(noise: np.ndarray) -> None:
    (crop,) = cut(noise, upright(0, 0, 300, 10), max_width=320)
    assert crop.shape == (3, 48, 320)
    assert (crop[:, :, -1] != 0).any()


def test_boxes_are_in_pixels_of_the_picture_and_the_page_may_be_smaller(noise: np.ndarray) -> None:
    (crop,) = cut(noise, upright(40, 60, 296, 156), size=(600, 400))
    assert (pixels(crop) == noise[30:78, 20:148]).all()


def test_a_tall_box_is_turned_its_right_side_up(noise: np.ndarray) -> None:
    (crop,) = cut(noise, upright(100, 20, 148, 148))
    turned = np.rot90(noise[20:148, 100:148])
    # Turning goes by a filter that moves values by a rounding error, no pixel by a pixel.
    assert np.abs(pixels(crop).astype(int) - turned).max() <= 2


@pytest.mark.parametrize("degrees", [-30, -10, 10, 30])
def test_text_aslant_is_straightened(degrees: float) -> None:
    strip = Image.new("RGB", (240, 48), "white")
    ImageDraw.Draw(strip).text((8, 2), "Museum 48213", "black", ImageFont.load_default(34))
    page = Image.new("RGB", (400, 400), "white")
    page.paste(strip, (80, 176))
    turned = np.asarray(page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor="white"))
    radians = np.deg2rad(-degrees)
    corners = np.array([(-120, -24), (120, -24), (120, 24), (-120, 24)])
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    (crop,) = cut(turned, np.rint(corners @ turn + 200).astype(int).tolist())
    text = pixels(crop)[:, :240].astype(float)
    difference = np.abs(text - np.asarray(strip, float)).mean()
    shifted = np.abs(text - np.roll(np.asarray(strip, float), 6, axis=1)).mean()
    assert difference < 20
    assert difference < shifted / 2


def test_no_boxes_are_no_crops(noise: np.ndarray) -> None:
    assert cut(noise) == []


def test_crops_are_in_the_order_of_the_boxes_and_those_of_one_width_side_by_side(noise: np.ndarray) -> None:
    boxes = [upright(0, 0, 96, 48), upright(0, 50, 128, 98), upright(100, 0, 196, 48)]
    stage = CropBoxes()
    batch: MemoryBatch = batch_of(stage, page=[noise], boxes=[boxes], size=[np.int32([300, 200])])
    given: list[np.ndarray] = []
    allocate = batch._allocate_many
    batch._allocate_many = lambda *asked: given.extend(allocate(*asked)) or given  # type: ignore[func-returns-value]
    batch.finish(stage.process(batch))  # type: ignore[func-returns-value]
    assert [view.shape[2] for view in given] == [96, 128, 96]
    first, _, third = (view.__array_interface__["data"][0] for view in given)
    assert third - first == given[0].nbytes
    assert (pixels(given[2]) == noise[0:48, 100:196]).all()
    assert batch.bytes_copied == 0


def test_a_page_whose_crops_take_too_much_fails_and_says_what_to_change(noise: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"the crops of 3 boxes of text take 110592 bytes, .*40000 \(option max_bytes\)"):
        cut(noise, *[upright(0, 0, 64, 48)] * 3, max_width=64, max_bytes=40000)


@pytest.mark.parametrize("options", [{"step": 0}, {"max_width": 100}, {"min_width": 40}, {"min_width": 320, "max_width": 64}])
def test_widths_that_contradict_each_other_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadOption, match="expected multiples of the step, min_width <= max_width"):
        CropBoxes(**options)


def test_boxes_that_have_no_four_corners_fail_the_page_and_are_not_taken_for_others(noise: np.ndarray) -> None:
    eight = [[x, y] for x, y in ((0, 0), (9, 0), (19, 0), (19, 9), (19, 19), (9, 19), (0, 19), (0, 9))]
    with pytest.raises(BadInput, match=r"expected boxes of four corners \[x, y\], found an array of shape \[1, 8, 2\]"):
        cut(noise, eight)


@pytest.mark.parametrize("left", [-30.0, 190.0, float("nan")])
def test_a_box_beyond_the_picture_fails_its_page_and_is_not_cut_out_of_the_other_side(
    noise: np.ndarray, left: float
) -> None:
    width = noise.shape[1]
    off = left if left != 190 else width - 10.0
    box = [[off, 0], [off + 40, 0], [off + 40, 20], [off, 20]]
    with pytest.raises(BadInput, match=r"box 1 reaches beyond the picture of \d+x\d+ pixels: \[\["):
        cut(noise, upright(0, 0, 40, 20), box)


def test_a_box_that_is_off_by_less_than_a_pixel_ends_where_the_picture_ends(noise: np.ndarray) -> None:
    width = noise.shape[1]
    over = [[width - 40, 0], [width + 0.5, 0], [width + 0.5, 20], [width - 40, 20]]
    exact = [[width - 40, 0], [width, 0], [width, 20], [width - 40, 20]]
    for one, other in zip(cut(noise, over), cut(noise, exact)):
        assert (one == other).all()
