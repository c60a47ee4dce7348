from __future__ import annotations

import numpy as np
import pytest

from pipeline.kserve.classification import classified
from pipeline.kserve.datatypes import element_views
from pipeline.kserve.values import InferTensor
from tests.unit.pipeline.kserve.examples import tensor_of


def texts(tensor: InferTensor) -> list[str]:
    assert tensor.data is not None
    return [str(each, "utf-8") for each in element_views(tensor.data, int(np.prod(tensor.shape)), "it")]


def test_the_largest_values_come_first_as_triton_2_51_says_them() -> None:
    found = classified(tensor_of("O", np.arange(0, 32, 2, dtype=np.int32).reshape(1, 16)), 3, batched=True)
    assert (found.shape, found.datatype, texts(found)) == ((1, 3), "BYTES", ["30:15", "28:14", "26:13"])


def test_each_row_has_its_own_and_without_a_batch_all_values_are_one() -> None:
    array = np.array([[0.5, 0.25], [0.125, 1]], np.float32)
    rows = classified(tensor_of("O", array, "FP32"), 1, batched=True)
    assert (rows.shape, texts(rows)) == ((2, 1), ["0.500000:0", "1.000000:1"])
    flat = classified(tensor_of("O", array, "FP32"), 2, batched=False)
    assert (flat.shape, texts(flat)) == ((2,), ["1.000000:3", "0.500000:0"])


def test_there_are_no_more_than_the_output_has() -> None:
    found = classified(tensor_of("O", np.array([[1, 2]], np.int64), "INT64"), 99, batched=True)
    assert (found.shape, texts(found)) == ((1, 2), ["2:1", "1:0"])
    assert classified(tensor_of("O", np.zeros((2, 0), np.int64), "INT64"), 3, batched=True).shape == (2, 0)


@pytest.mark.parametrize(("values", "expected"), [([7, 7, 7], ["7:0", "7:1", "7:2"]), ([0, 255, 0], ["255:1", "0:0", "0:2"])])
def test_of_equal_values_the_first_comes_first(values: list[int], expected: list[str]) -> None:
    assert texts(classified(tensor_of("O", np.array(values, np.uint8), "UINT8"), 3, batched=False)) == expected


def test_nan_comes_last() -> None:
    array = np.array([np.nan, 1, -np.inf], np.float64)
    assert texts(classified(tensor_of("O", array, "FP64"), 1, batched=False)) == ["1.000000:1"]
