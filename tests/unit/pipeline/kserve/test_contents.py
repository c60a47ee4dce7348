from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve.contents import Contents
from pipeline.kserve.datatypes import DATATYPES
from pipeline.kserve.messages import message
from pipeline.kserve.values import Limits
from pipeline.kserve.wireformat import bytes_field, varint


def read(frame: bytes, limits: Limits | None = None, alone: int = 0) -> tuple[Contents, int]:
    contents = Contents()
    return contents, contents.read(memoryview(frame), 0, len(frame), limits or Limits(), alone)


def packed(datatype: str, count: int, **fields: Any) -> bytes:
    contents, _ = read(message("InferTensorContents")(**fields).SerializeToString())
    return contents.packed(DATATYPES[datatype], (count,), "it")


def test_each_field_gives_the_datatypes_that_it_is_for() -> None:
    assert packed("INT8", 2, int_contents=[-1, 5]) == b"\xff\5"
    assert packed("INT16", 1, int_contents=[-2]) == b"\xfe\xff"
    assert packed("UINT16", 1, uint_contents=[65535]) == b"\xff\xff"
    assert packed("INT64", 1, int64_contents=[-1]) == b"\xff" * 8
    assert packed("UINT64", 1, uint64_contents=[2**64 - 1]) == b"\xff" * 8
    assert packed("BOOL", 2, bool_contents=[True, False]) == b"\1\0"
    assert packed("FP64", 1, fp64_contents=[1.5]) == np.float64(1.5).tobytes()
    assert packed("BYTES", 2, bytes_contents=[b"a", b""]) == b"\1\0\0\0a\0\0\0\0"
    assert packed("INT32", 0) == b""


def test_elements_that_are_fields_of_their_own_are_read_and_counted() -> None:
    frame = b"".join(varint(2 << 3) + varint(number) for number in (7, 2**64 - 1)) + bytes_field(2, varint(9))
    contents, alone = read(frame, alone=3)
    assert alone == 5
    assert np.frombuffer(contents.packed(DATATYPES["INT32"], (3,), "it"), np.int32).tolist() == [7, -1, 9]
    contents, alone = read(varint(6 << 3 | 5) + np.float32(2).tobytes())
    assert (contents.packed(DATATYPES["FP32"], (1,), "it"), alone) == (np.float32(2).tobytes(), 1)
    with pytest.raises(KserveError, match="at most 4 elements"):
        read(frame, Limits(elements=4), alone=3)


def test_a_field_of_another_wire_type_is_unknown() -> None:
    contents, alone = read(varint(8 << 3) + varint(5) + varint(6 << 3 | 1) + b"12345678" + bytes_field(99, b"x"))
    assert (contents.names, alone) == ([], 0)


@pytest.mark.parametrize(("datatype", "fields"), [("FP32", bytes_field(6, b"12345")), ("INT32", bytes_field(2, b"\x80"))])
def test_packed_elements_that_are_cut_off_are_refused(datatype: str, fields: bytes) -> None:
    contents, _ = read(fields)
    with pytest.raises(KserveError, match="expected"):
        contents.packed(DATATYPES[datatype], (1,), "it")


@settings(max_examples=150)
@given(st.binary(max_size=40), st.sampled_from([kind for kind in DATATYPES.values() if kind.contents]), st.integers(0, 3))
def test_any_bytes_are_refused_or_elements(frame: bytes, kind: Any, count: int) -> None:
    try:
        found, _ = read(frame)
        data = found.packed(kind, (count,), "it")
    except KserveError:
        return
    assert not kind.itemsize or len(data) == count * kind.itemsize
