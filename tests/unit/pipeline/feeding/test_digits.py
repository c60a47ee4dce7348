"""The shortest decimal numbers of whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.feeding.digits import fewest_digits
from shm.handle import itemsize

itemsize("bfloat16")  # from then on numpy knows it by its name
DTYPES = st.sampled_from(["float16", "float32"])


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_every_number_comes_back_as_itself_in_its_place(array: np.ndarray) -> None:
    found = fewest_digits(array)
    assert found.shape == array.shape
    assert np.array_equal(found.astype(array.dtype), array, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(array))


@given(hnp.arrays("float32", st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_float32_has_as_many_digits_as_numpy_gives_it(array: np.ndarray) -> None:
    assert fewest_digits(array).tolist() == [float(str(number)) for number in array]


def test_every_float16_has_at_most_five_digits() -> None:
    array = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    array = array[np.isfinite(array)]
    found = fewest_digits(array)
    assert np.array_equal(found.astype(np.float16), array)
    for number in found.tolist():
        digits = repr(number).lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
        assert len(digits) <= 5


def test_every_bfloat16_has_at_most_four_digits() -> None:
    array = np.arange(1 << 16, dtype=np.uint16).view("bfloat16")
    assert np.isfinite(fewest_digits(array)).sum() == 2 * 255 * 128
    array = array[array.view(np.uint16) & 0x7F80 != 0x7F80]
    found = fewest_digits(array)
    assert found.astype("bfloat16").tobytes() == array.tobytes()
    for number in found[(np.abs(found) > 1e-16) & (np.abs(found) < 1e22)].tolist():
        digits = repr(number).lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
        assert len(digits) <= 4, number


@pytest.mark.parametrize("value", [0.1, 1 / 3, 16777216.0, 1e-20, 3.4028235e38, 1e-45, 1e22, 1e23])
def test_the_ends_of_the_range_are_no_exception(value: float) -> None:
    array = np.full(3, value, np.float32)
    assert fewest_digits(array).tolist() == [float(str(array[0]))] * 3
