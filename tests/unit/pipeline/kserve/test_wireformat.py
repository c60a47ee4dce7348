from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve.messages import message
from pipeline.kserve.wireformat import BYTES, Field, bytes_field, few_varints, fields, signed, text_of, varint, varints


def read(frame: bytes) -> list[Field]:
    return list(fields(memoryview(frame), 0, len(frame)))


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_number_is_written_as_protobuf_writes_it(number: int) -> None:
    name = "uint64_param" if number >= 2**63 else "int64_param"
    expected = message("InferParameter")(**{name: number}).SerializeToString()
    assert varint((5 if number >= 2**63 else 2) << 3) + varint(number) == expected
    (field,) = read(expected)
    assert field.value == number % 2**64
    assert number >= 2**63 or signed(field.value) == number


def test_of_a_number_with_more_than_64_bits_the_low_ones_count_as_protobuf_has_it() -> None:
    frame = b"\x28" + b"\xff" * 9 + b"\x7f"
    assert message("InferParameter").FromString(frame).uint64_param == read(frame)[0].value == 2**64 - 1
    assert varints(memoryview(frame[1:])).tolist() == [2**64 - 1]


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**64 - 1)))
def test_packed_numbers_are_read_all_at_once(numbers: list[int]) -> None:
    packed = b"".join(map(varint, numbers))
    assert varints(memoryview(packed)).tolist() == numbers
    contents = message("InferTensorContents")(uint64_contents=numbers)
    assert [int(each) for each in varints(memoryview(packed))] == list(contents.uint64_contents)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9), st.integers(0, 9))
def test_of_a_few_packed_numbers_no_more_are_read_than_show_that_there_are_too_many(numbers: list[int], most: int) -> None:
    frame = memoryview(bytes_field(3, b"".join(map(varint, numbers))))
    (field,) = fields(frame, 0, len(frame))
    assert few_varints(frame, field, most) == numbers[: most + 1]


@pytest.mark.parametrize(
    ("packed", "part"), [(b"\x80", "expected the end"), (b"\x01\xff", "expected the end"), (b"\x80" * 10 + b"\x01", "found one of 11")]
)
def test_packed_numbers_without_an_end_or_too_long_are_refused(packed: bytes, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        varints(memoryview(packed))


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (b"\x80", "expected the end of a number of at most 5 bytes at byte 0"),
        (b"\x08", "expected the end of a number of at most 10 bytes at byte 1"),
        (b"\x08" + b"\xff" * 10, "expected the end of a number"),
        (b"\x0a\x05abc", "field 1 at byte 0 of the message: expected 5 bytes, found 3"),
        (b"\x0a\xff\xff\xff\xff\x7f", "expected 34359738367 bytes, found 0"),
        (b"\x09abc", "expected 8 bytes, found 3"),
        (b"\x0dabc", "expected 4 bytes, found 3"),
        (b"\x0b", "found wire type 3"),
        (b"\x0c", "found wire type 4"),
        (b"\x02\x00", "expected the tag of a field at byte 0"),
        (b"\x0a", "expected the end of a number"),
    ],
)
def test_what_is_no_message_is_refused(frame: bytes, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        read(frame)


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error_and_fields_lie_end_to_end(frame: bytes) -> None:
    try:
        found = read(frame)
    except KserveError:
        return
    assert [field.end for field in found] == sorted({field.end for field in found})
    assert not frame or found[-1].end == len(frame)


def test_text_is_utf8() -> None:
    frame = memoryview(bytes_field(1, "ä") + bytes_field(2, b"\xff"))
    first, second = fields(frame, 0, len(frame))
    assert (first.wire_type, text_of(frame, first, "a name")) == (BYTES, "ä")
    with pytest.raises(KserveError, match="expected a name in UTF-8"):
        text_of(frame, second, "a name")


def test_a_large_packed_field_is_read_in_few_steps() -> None:
    packed = memoryview(b"\x81\x01" * 500_000)
    found = varints(packed)
    assert found.size == 500_000
    assert np.unique(found).tolist() == [129]
