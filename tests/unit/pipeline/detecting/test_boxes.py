"""From a pipeline's output to Frigate's table; a pipeline without such an output is refused at the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.detecting.boxes import COLUMNS, Boxes, boxes_of, columns_of, input_of
from pipeline.errors import ConfigError, InvalidRequest, StageFailed
from pipeline.wire.interface import Axis, Interface, Tensor


def tensor(name: str, dtype: str, *axes: int | str) -> Tensor:
    return Tensor(name, dtype, tuple(Axis(axis, 640) if isinstance(axis, str) else Axis("", axis) for axis in axes))


def interface(*tensors: Tensor, outputs: tuple[Tensor, ...] = ()) -> Interface:
    return Interface("finder", "1", tensors, outputs, ("find",))


FRAME = tensor("image", "uint8", 320, 320, 3)
BOXES, SCORES, COUNT = tensor("boxes", "float32", 20, 6), tensor("scores", "float32", "n", 7), tensor("count", "int32")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("axes", "size"), [((320, 640, 3), (320, 640)), ((3, 320, 640), (320, 640)), (("H", "W", 3), (320, 640))])
def test_the_input_is_a_picture_whichever_axis_its_channels_are(dtype: str, axes: Any, size: tuple[int, int]) -> None:
    found = input_of(interface(tensor("image", dtype, *axes)))
    assert (found.name, found.dtype) == ("image", dtype)
    assert found.size([axis if isinstance(axis, int) else {"H": 320, "W": 640}[axis] for axis in axes]) == size


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ((FRAME, COUNT), "expected one input, a picture, found 2: image, count"),
        ((tensor("image", "int8", 320, 320, 3),), "found image: int8 (320, 320, 3)"),
        ((tensor("image", "uint8", 320, 320, 4),), "found image: uint8 (320, 320, 4)"),
        ((tensor("image", "uint8", 320, 320),), "found image: uint8 (320, 320)"),
        ((tensor("image", "uint8", "H", "W", "C"),), "found image: uint8 (H, W, C)"),
    ],
)
def test_a_pipeline_that_takes_no_picture_is_refused(tensors: tuple[Tensor, ...], why: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        input_of(interface(*tensors))
    assert str(caught.value).endswith(why)


def test_a_frame_of_another_dtype_is_refused_and_frigates_setting_is_named() -> None:
    found = input_of(interface(FRAME))
    found.check(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(InvalidRequest, match=r"found float32; set model\.input_dtype of Frigate to int"):
        found.check(np.zeros((1, 1, 3), np.float32))


def test_the_columns_are_six_names_and_any_number_that_are_passed_over() -> None:
    assert columns_of(",".join(COLUMNS)) == COLUMNS
    assert columns_of("-, x_min,y_min,x_max,y_max,score,class,-")[0] == "-"
    for text, why in (
        ("class,score", "expected y_min once, found it 0 times"),
        (",".join((*COLUMNS, "score")), "expected score once, found it 2 times"),
        ("klass,score,y_min,x_min,y_max,x_max", "found 'klass' (did you mean class?)"),
    ):
        with pytest.raises(ConfigError, match="--columns") as caught:
            columns_of(text)
        assert why in str(caught.value)


def test_the_output_is_the_only_one_that_fits_or_the_one_that_is_named() -> None:
    there = interface(FRAME, outputs=(SCORES, BOXES, COUNT))
    assert boxes_of(there, COLUMNS).output == "boxes"
    assert boxes_of(there, (*COLUMNS, "-"), "scores").output == "scores"
    two = interface(FRAME, outputs=(BOXES, tensor("others", "float32", "n", 6)))
    assert boxes_of(two, COLUMNS, "others").output == "others"
    for asked, output, why in (
        (two, "", "found boxes: float32 (20, 6); others: float32 (n, 6); name one with --output"),
        (interface(FRAME, outputs=(SCORES, COUNT)), "", "found scores: float32 (n, 7); count: int32 (); name one"),
        (there, "scores", "--output scores: expected an output of floats and shape (n, 6)"),
        (there, "boxs", "finder has no output 'boxs' (did you mean boxes?)"),
    ):
        with pytest.raises(ConfigError) as caught:
            boxes_of(asked, COLUMNS, output)
        assert why in str(caught.value)


def test_the_table_has_the_best_things_first_and_zeros_behind_them() -> None:
    boxes = Boxes("boxes", ("score", "-", "x_min", "y_min", "x_max", "y_max", "class"))
    found = np.array([[0.4, 9, 0.1, 0.2, 0.3, 0.4, 2], [0, 9, 9, 9, 9, 9, 9], [0.9, 9, -0.5, 0.6, 0.7, 1.8, 1]], np.float64)
    table = boxes.table(found, 1, 1)
    assert (table.shape, table.dtype) == ((20, 6), np.float32)
    expected = np.zeros((20, 6), np.float32)
    expected[0] = 1, 0.9, 0.6, 0, 1, 0.7
    expected[1] = 2, 0.4, 0.2, 0.1, 0.4, 0.3
    assert np.array_equal(table, expected)


def test_more_than_twenty_things_are_the_twenty_best() -> None:
    found = np.zeros((30, 6), np.float32)
    found[:, 0] = range(30)
    found[:, 1] = np.linspace(0.1, 0.9, 30)
    assert list(Boxes("boxes", COLUMNS).table(found, 1, 1)[:, 0]) == list(range(29, 9, -1))
    assert not Boxes("boxes", COLUMNS).table(found[:0], 1, 1).any()


def test_corners_in_pixels_are_divided_by_the_size_of_the_frame() -> None:
    found = np.array([[3, 0.5, 10, 40, 20, 400]], np.float32)
    table = Boxes("boxes", COLUMNS, pixels=True).table(found, 100, 400)
    assert np.allclose(table[0], [3, 0.5, 0.1, 0.1, 0.2, 1])


def test_an_output_that_is_no_table_any_more_or_not_finite_fails_the_request() -> None:
    boxes = Boxes("boxes", COLUMNS)
    for found in (np.zeros((3, 7), np.float32), np.zeros(6, np.float32), np.full((1, 6), np.nan, np.float32)):
        with pytest.raises(StageFailed):
            boxes.table(found, 1, 1)
