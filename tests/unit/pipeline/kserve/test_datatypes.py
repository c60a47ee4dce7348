from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import DATATYPES, OF_DTYPE, datatype, element_views, expected_nbytes, joined
from pipeline.kserve.messages import message
from shm.elements import Elements


def test_the_names_of_numbers_are_those_of_numpy_and_of_their_size() -> None:
    numbers = [kind for kind in DATATYPES.values() if kind.name not in ("BF16", "BYTES")]
    assert [np.dtype(kind.dtype).itemsize for kind in numbers] == [kind.itemsize for kind in numbers]
    assert len(numbers) == 12
    assert (OF_DTYPE["bfloat16"].name, OF_DTYPE["bytes"].name, OF_DTYPE["json"].name) == ("BF16", "BYTES", "BYTES")


def test_the_names_in_configs_and_contents_are_those_of_the_messages() -> None:
    config = message("ModelInput").DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {kind.config for kind in DATATYPES.values()} == set(config.values_by_name) - {"TYPE_INVALID"}
    contents = message("InferTensorContents").DESCRIPTOR.fields_by_name
    assert {kind.contents for kind in DATATYPES.values()} - {""} == set(contents)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(KserveError, match=r"invalid datatype for input 'a': expected one of BOOL, .* found 'int32'"):
        datatype("int32", "input 'a'")


def test_bytes_of_a_tensor_follow_from_its_shape_unless_elements_have_lengths() -> None:
    assert expected_nbytes(DATATYPES["FP64"], (2, 3)) == 48
    assert expected_nbytes(DATATYPES["FP64"], ()) == 8
    assert expected_nbytes(DATATYPES["BYTES"], (2,)) is None


@given(st.lists(st.binary(max_size=9)))
def test_elements_come_back_as_views(elements: list[bytes]) -> None:
    data = memoryview(joined(elements))
    found = element_views(data, len(elements), "it")
    assert list(map(bytes, found)) == elements
    assert all(each.obj is data.obj for each in found)
    # The form is that of slots.
    array = np.empty(len(elements), object)
    array[:] = elements
    assert Elements.of(array).raw.tobytes() == data


@pytest.mark.parametrize(
    ("data", "count", "part"),
    [
        # Triton 2.51 answers each with 400.
        (b"\3\0\0\0ab", 1, "incomplete string data for it: expected a string of 3 bytes at 4, found 2"),
        (b"\1\0\0\0a", 2, "expected 2 string elements for it"),
        (b"\1\0\0\0abc", 2, "expected 2 string elements for it, found 7 bytes"),
        (b"\0\0\0\0" * 2, 1, "unexpected number of string elements for it: expected 1, found 4 bytes behind them"),
        (b"\4\0\0\0abcd\0", 2, "incomplete string length for it: expected 4 bytes at 8, found 1"),
        (b"\4\0\0\0abcd", 2, "expected 2 string elements for it, found 1"),
        (b"\xff\xff\xff\xff", 1, "expected a string of 4294967295 bytes at 4, found 0"),
        (b"\0", 0, "expected 0, found 1 bytes behind them"),
        (b"", 2**80, "which hold at most 0"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(data: bytes, count: int, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        element_views(memoryview(data), count, "it")


@settings(max_examples=150)
@given(st.binary(max_size=40), st.integers(0, 12))
def test_any_bytes_are_refused_or_are_the_elements(data: bytes, count: int) -> None:
    try:
        found = element_views(memoryview(data), count, "it")
    except KserveError:
        return
    assert joined(found) == data
    assert len(found) == count
