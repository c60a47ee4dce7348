from __future__ import annotations

import numpy as np
import pytest

from shm.handle import JSON, TensorHandle, itemsize


def test_a_handle_knows_its_bytes() -> None:
    assert TensorHandle(1, 2, 3, 0, "float32", (224, 224, 3)).nbytes == 602_112
    assert TensorHandle(1, 2, 3, 0, JSON, (17,)).nbytes == 17
    assert TensorHandle(1, 2, 3, 0, "float64", ()).nbytes == 8
    assert TensorHandle(1, 2, 3, 0, "uint8", (0, 9)).nbytes == 0


@pytest.mark.parametrize("name", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"])
def test_plain_numbers_travel(name: str) -> None:
    assert itemsize(name) == np.dtype(name).itemsize


@pytest.mark.parametrize("name", ["object", "str", "<f4", "f4", "float", "i4,i4", "datetime64", "void", "", "JSON", "(9,)f4"])
def test_what_is_no_plain_number_or_has_another_canonical_name_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="cannot lie in shared memory"):
        itemsize(name)
