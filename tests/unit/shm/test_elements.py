from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.elements import Elements, elements_of, fill, stored_shape
from shm.errors import MalformedElements


def objects(*items: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(items), object)
    for number, item in enumerate(items):
        array[number] = item
    return array


def raw(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, np.uint8)


def test_each_element_lies_behind_its_length_row_by_row() -> None:
    """As KServe's protocol has it: u32, little endian."""
    array = objects(b"ab", b"", b"c\0\0", b"d").reshape(2, 2)
    assert stored_shape(array) == (2, 2, 22)
    encoding = Elements.of(array)
    assert encoding.raw.tobytes() == b"\x02\0\0\0ab" b"\0\0\0\0" b"\x03\0\0\0c\0\0" b"\x01\0\0\0d"
    assert encoding.shape == (2, 2)
    assert encoding.decode().tolist() == [[b"ab", b""], [b"c\0\0", b"d"]]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_elements_come_back_as_they_were(items: list[bytes]) -> None:
    encoding = Elements.of(objects(*items))
    found = encoding.decode()
    assert found.tolist() == items
    assert found.dtype == object
    assert not found.flags.writeable
    assert len(encoding.raw) == stored_shape(objects(*items))[-1]


def test_an_element_of_no_dimension_and_an_array_of_no_elements_come_back() -> None:
    scalar = elements_of(b"one")
    assert (scalar.shape, stored_shape(scalar)) == ((), (7,))
    assert Elements.of(scalar).decode()[()] == b"one"
    for shape in ((0,), (0, 3), (3, 0)):
        empty = np.empty(shape, object)
        assert stored_shape(empty) == (*shape, 0)
        assert Elements.of(empty).decode().shape == shape


@pytest.mark.parametrize(
    ("data", "shape", "why"),
    [
        (b"", (1,), "1 elements with a length of 4 bytes each, in 0 bytes"),
        (b"\0\0\0", (1,), "in 3 bytes"),
        (b"\x04\0\0\0abc", (1,), "element 0 of 1 has a length of 4 bytes, but 3 are left of 7"),
        (b"\xff\xff\xff\xff" + b"a" * 9, (1,), "a length of 4294967295 bytes, but 9 are left of 13"),
        (b"\x02\0\0\0abc", (1,), "1 elements end after 6 bytes of 7"),
        (b"\x02\0\0\0ab\x01\0", (2,), "element 1 of 2 has no length: 2 bytes are left of 8"),
        (b"abc", (0,), "0 elements end after 0 bytes of 3"),
        (b"\0\0\0\0", (1 << 60,), "1152921504606846976 elements with a length"),
    ],
)
def test_what_are_no_elements_is_refused_before_a_byte_behind_them_is_read(
    data: bytes, shape: tuple[int, ...], why: str
) -> None:
    with pytest.raises(MalformedElements, match=why):
        Elements(raw(data), shape).decode()


@given(st.binary(max_size=60), st.integers(0, 5))
def test_whatever_lies_there_is_elements_of_all_its_bytes_or_refused(data: bytes, count: int) -> None:
    try:
        found = Elements(raw(data), (count,)).decode().tolist()
    except MalformedElements:
        return
    assert b"".join(struct.pack("<I", len(item)) + item for item in found) == data
    assert len(found) == count


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.data())
def test_a_wrong_length_never_reads_what_lies_behind(items: list[bytes], data: st.DataObject) -> None:
    encoding = Elements.of(objects(*items))
    secret = b"another request's bytes"
    memory = np.concatenate([encoding.raw, raw(secret)])
    at = sum(4 + len(item) for item in items[: data.draw(st.integers(0, len(items) - 1))])
    memory[at : at + 4] = raw(struct.pack("<I", data.draw(st.integers(0, 2**32 - 1))))
    try:
        found = Elements(memory[: len(encoding.raw)], (len(items),)).decode()
    except MalformedElements:
        return
    assert sum(map(len, found)) + 4 * len(items) == len(encoding.raw)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (["a", "ü"], [b"a", b"\xc3\xbc"]),
        ([b"a\0", b"b"], [b"a\0", b"b"]),
        ((b"a", "b"), [b"a", b"b"]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        (np.array(["a", "ü"]), [b"a", b"\xc3\xbc"]),
        (objects(b"a", "b", bytearray(b"c"), memoryview(b"d"), np.bytes_(b"e"), np.str_("f")), [b"a", b"b", b"c", b"d", b"e", b"f"]),
        ([[b"a"], [b"b"]], [[b"a"], [b"b"]]),
        ([], []),
        (b"a\0", b"a\0"),
        (memoryview(b"abc"), b"abc"),
        ("ü", b"\xc3\xbc"),
    ],
)  # fmt: skip
def test_texts_become_utf8_and_nuls_are_kept(value: Any, wanted: Any) -> None:
    array = elements_of(value)
    assert array.dtype == object
    assert array.tolist() == wanted
    assert all(type(item) is bytes for item in array.ravel().tolist())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2], "found int"),
        (5, "found int"),
        ([b"a", None], "found NoneType"),
        ([[b"a"], [b"b", b"c"]], "found list"),
        (np.zeros(2), "found float64"),
        (np.zeros((0,)), "found float64"),
        ({"a": 1}, "found dict"),
    ],
)
def test_what_is_neither_bytes_nor_text_is_refused(value: Any, why: str) -> None:
    with pytest.raises(TypeError, match=f"expected elements of bytes.*{why}"):
        elements_of(value)


def test_half_of_a_surrogate_pair_has_no_bytes() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        elements_of(["\ud800"])


def test_an_element_that_has_grown_since_it_was_measured_is_not_written_over_what_follows() -> None:
    memory = np.zeros(16, np.uint8)
    with pytest.raises(ValueError, match="different structures"):
        fill(memory[:6], objects(b"much too long"))
    assert not memory[6:].any()


def test_an_element_whose_length_has_no_four_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shm.elements._LONGEST", 3)
    with pytest.raises(ValueError, match="an element has 4 bytes; expected at most 3"):
        elements_of([b"four"])
