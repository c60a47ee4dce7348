"""Arrays out of files and JSON: as they are, or refused with what was found."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InvalidRequest
from pipeline.feeding.arrays import arrays_of_json, is_array_file, parse_json, read_arrays
from stages.spec import TensorSpec

X, Y = TensorSpec("x", "float32", (2,)), TensorSpec("y", "int64", ())
DOCUMENT = TensorSpec.json("request", 40)


def npy(array: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    np.save(stream, array)
    return io.BytesIO(stream.getvalue())


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_a_npy_file_is_the_one_input_and_a_npz_file_has_them_by_name() -> None:
    assert read_arrays(npy(np.array([1, 2], "float32")), [X])["x"].tolist() == [1, 2]
    data = npz(x=np.array([3, 4], "float32"), y=np.int64(5), z=np.zeros(3))
    found = read_arrays(io.BytesIO(data), [X, Y])
    assert {name: array.tolist() for name, array in found.items()} == {"x": [3, 4], "y": 5}
    squeezed = io.BytesIO()
    np.savez_compressed(squeezed, x=np.array([3, 4], "float32"))
    assert read_arrays(io.BytesIO(squeezed.getvalue()), [X])["x"].tolist() == [3, 4]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::2],
    ],
    ids=["plain", "columns first", "big-endian", "strided"],
)
def test_values_stay_what_they_are_in_whatever_order_they_lie(array: np.ndarray) -> None:
    spec = TensorSpec("x", "int16", (2, 3))
    found = read_arrays(npy(array), [spec])["x"]
    assert np.array_equal(found, array)
    assert found.dtype.name == "int16"


def test_an_array_without_elements_is_read() -> None:
    spec = TensorSpec("x", "float32", ("N", 2), {"N": 5})
    assert read_arrays(npy(np.zeros((0, 2), np.float32)), [spec])["x"].shape == (0, 2)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([300.7, 0.9]), "float64"),
        (np.array([1, 2], "int64"), "int64"),
        (np.array([1, 2], "float16"), "float16"),
        (np.array(["a", "b"]), "str32"),
        (np.array([1, 2], "M8[s]"), r"datetime64\[s\]"),
        (np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]), "void64"),
    ],
)
def test_an_array_of_another_dtype_is_refused_with_both_named_and_never_cast(array: np.ndarray, found: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^input 'x': expected dtype float32, found {found}$"):
        read_arrays(npy(array), [X])
    with pytest.raises(InvalidRequest, match=rf"^input 'x': expected dtype float32, found {found}$"):
        read_arrays(io.BytesIO(npz(x=array)), [X])


def test_an_array_of_another_shape_is_refused_before_it_is_read() -> None:
    header = npy(np.zeros(2, np.float32)).getvalue().replace(b"(2,)", b"(10000000000000,)".ljust(4))
    with pytest.raises(InvalidRequest, match="expected 2 along axis 0"):
        read_arrays(io.BytesIO(header.replace(b"(10000000000000,)", b"(3,)")), [X])
    huge = TensorSpec("x", "float32", ("N",), {"N": 5})
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    with pytest.raises(InvalidRequest, match="expected at most 5 for 'N'"):
        read_arrays(io.BytesIO(stream.getvalue()), [huge])


def test_a_file_that_does_not_hold_the_inputs_is_refused_with_what_it_holds() -> None:
    with pytest.raises(InvalidRequest, match=r"expected a \.npz file with the inputs x, y; found one array"):
        read_arrays(npy(np.zeros(2, np.float32)), [X, Y])
    with pytest.raises(InvalidRequest, match="no array 'y' in the file; it has x"):
        read_arrays(io.BytesIO(npz(x=np.zeros(2, np.float32))), [X, Y])


def test_an_array_of_objects_is_never_unpickled() -> None:
    array = np.array([{"a": 1}, 2], dtype=object)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    for data in (stream.getvalue(), npz(x=array)):
        with pytest.raises(InvalidRequest, match="expected dtype float32, found Python objects"):
            read_arrays(io.BytesIO(data), [X])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x93NUMPY\x01\x00v\x00" + b"{" * 118, "a damaged .npy file"),
        (b"\x93NUMPY", "a damaged .npy file"),
        (b"\x93NUMPY\x09\x00v\x00", "a damaged .npy file"),
        (npy(np.zeros(2, np.float32)).getvalue()[:-3], "the file is cut: 5 of 8 bytes"),
        (b"PK\x03\x04", "a damaged .npz file"),
        (npz(x=np.zeros(2, np.float32))[:-30], "a damaged .npz file"),
    ],
    ids=["header", "start", "version", "cut", "start of a zip", "cut zip"],
)
def test_a_damaged_file_is_refused(data: bytes, why: str) -> None:
    assert is_array_file(data)
    with pytest.raises(InvalidRequest, match=why):
        read_arrays(io.BytesIO(data), [X])


def test_a_broken_array_inside_a_good_zip_is_refused() -> None:
    data = bytearray(npz(x=np.zeros(2, np.float32)))
    data[data.index(b"\x93NUMPY") + 10] ^= 0xFF
    with pytest.raises(InvalidRequest, match="damaged"):
        read_arrays(io.BytesIO(data), [X])


def test_a_json_input_takes_a_document_and_gets_its_bytes() -> None:
    for data in (b'{"a": [1, 2]}', b'\xef\xbb\xbf{"a": [1, 2]}\n'):
        assert arrays_of_json(data, [DOCUMENT])["request"].tobytes() == b'{"a": [1, 2]}'
    array = np.frombuffer(b'{"a": 1}', np.uint8)
    assert read_arrays(npy(array), [DOCUMENT])["request"].tobytes() == b'{"a": 1}'
    with pytest.raises(InvalidRequest, match="expected at most 40 for 'bytes'"):
        arrays_of_json(json.dumps("x" * 50).encode(), [DOCUMENT])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Expecting value at line 1, column 1"),
        (b'{"a": }', "line 1, column 7"),
        (b'{"a": 1}\n{"a": 2}', "Extra data at line 2, column 1"),
        (b"[NaN]", "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b'"\xff"', "expected JSON in UTF-8, found the byte 0xff"),
        (b"[" * 100_000, "expected one JSON document"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parse_json(data)


def test_arrays_may_come_as_nested_lists_by_the_names_of_the_inputs() -> None:
    found = arrays_of_json(b'{"y": 7, "x": [0.1, 2]}', [X, Y])
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "x": ("float32", (2,)), "y": ("int64", ()),
    }  # fmt: skip
    assert found["x"].tolist() == np.array([0.1, 2], np.float32).tolist()
    assert arrays_of_json(b"[1, 2]", [X])["x"].tolist() == [1, 2]
    both = arrays_of_json(b'{"x": [1, 2], "request": {"k": "v"}}', [X, DOCUMENT])
    assert json.loads(both["request"].tobytes()) == {"k": "v"}
    free = TensorSpec("x", "float32", ("N", 2), {"N": 5})
    with pytest.raises(InvalidRequest, match="expected 2 dimensions"):
        arrays_of_json(b"[1]", [free])


@pytest.mark.parametrize(
    ("shape", "text", "wanted"),
    [
        (("N", 2), b"[]", (0, 2)),
        (("N", "M"), b"[]", (0, 0)),
        (("N", "M", 3), b"[[], []]", (2, 0, 3)),
        (("N", "M"), b"[[], []]", (2, 0)),
        (("N",), b"[]", (0,)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bytes"])
def test_an_empty_array_has_the_axes_that_json_cannot_show(
    dtype: str, shape: tuple[int | str, ...], text: bytes, wanted: tuple[int, ...]
) -> None:
    most = {extent: 5 for extent in shape if isinstance(extent, str)} | ({"bytes": 64} if dtype == "bytes" else {})
    assert arrays_of_json(text, [TensorSpec("x", dtype, shape, most)])["x"].shape == wanted
    with pytest.raises(InvalidRequest):
        arrays_of_json(text, [TensorSpec("x", dtype, (5, 2), {"bytes": 64} if dtype == "bytes" else {})])


NAMES = TensorSpec("names", "bytes", ("n", "m"), {"n": 4, "m": 3, "bytes": 64})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunk", [1 << 20, 7, 1])
def test_texts_and_bytes_of_a_file_are_elements(monkeypatch: pytest.MonkeyPatch, order: str, chunk: int) -> None:
    monkeypatch.setattr("pipeline.feeding.arrays._CHUNK_BYTES", chunk)
    values = [["a", "ü"], ["", "long er"], ["\0x", "z"]]
    wanted = [[text.encode() for text in row] for row in values]
    assert read_arrays(npy(np.array(values, order=order)), [NAMES])["names"].tolist() == wanted
    assert read_arrays(npy(np.array(wanted, order=order)), [NAMES])["names"].tolist() == wanted
    big_endian = np.array(values).astype(">U7")
    assert read_arrays(npy(big_endian), [NAMES])["names"].tolist() == wanted
    for empty in (np.empty((0, 2), "S5"), np.empty((2, 0), "U0")):
        assert read_arrays(npy(empty), [NAMES])["names"].shape == empty.shape


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([["a"] * 4]), "expected at most 3 for 'm'"),
        (np.array([[b"a" * 65]]), "expected at most 64 bytes in all, found elements of up to 65"),
        (np.array([[b"a" * 30] * 2]), "expected at most 64 bytes in all, with 4 for each length; found more"),
        (np.array([["\ud800"]]), "surrogates not allowed"),
        (np.array([b"a"]), "expected 2 dimensions"),
        (np.zeros((1, 1)), "expected dtype bytes, found float64"),
    ],
)
def test_elements_of_a_file_that_do_not_fit_are_refused(array: np.ndarray, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'names': .*{why}"):
        read_arrays(npy(array), [NAMES])


def test_objects_are_not_unpickled_and_a_cut_file_is_told() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([[b"a"]], object), allow_pickle=True)
    stream.seek(0)
    with pytest.raises(InvalidRequest, match="found Python objects; of elements of bytes make an array of 'S'"):
        read_arrays(stream, [NAMES])
    cut = io.BytesIO(npy(np.array([[b"abc", b"d"]])).getvalue()[:-2])
    with pytest.raises(InvalidRequest, match="the file is cut: 4 of 6 bytes"):
        read_arrays(cut, [NAMES])


def test_a_file_that_claims_to_have_endless_elements_costs_no_memory() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|S64", "fortran_order": False, "shape": (4, 1 << 50)})
    header.seek(0)
    with pytest.raises(InvalidRequest, match="expected at most 3 for 'm'"):
        read_arrays(header, [NAMES])


def test_bfloat16_comes_as_numbers_in_json_and_as_numpy_writes_it() -> None:
    spec = TensorSpec("x", "bfloat16", (3,))
    numbers = np.array([0.5, -2, 100], "bfloat16")
    assert read_arrays(npy(numbers), [spec])["x"].tolist() == numbers.tolist()
    assert arrays_of_json(b"[0.5, -2, 100]", [spec])["x"].tobytes() == numbers.tobytes()
    for wrong, why in ((b"[true, false, true]", "expected numbers"), (b"[1e39, 0, 0]", "numbers that bfloat16 can hold")):
        with pytest.raises(InvalidRequest, match=why):
            arrays_of_json(wrong, [spec])
    with pytest.raises(InvalidRequest, match="expected dtype bfloat16, found float16"):
        read_arrays(npy(np.zeros(3, np.float16)), [spec])
    with pytest.raises(InvalidRequest, match="expected dtype bfloat16, found void16"):
        read_arrays(npy(np.zeros(3, [("a", "u1"), ("b", "u1")])), [spec])


def test_texts_in_json_are_elements_and_numbers_are_none() -> None:
    assert arrays_of_json(b'[["a", "\\u00fc"]]', [NAMES])["names"].tolist() == [[b"a", b"\xc3\xbc"]]
    both = arrays_of_json(b'{"names": [["a"]], "x": [1, 2]}', [NAMES, X])
    assert both["names"].tolist() == [[b"a"]]
    for wrong, why in ((b"[[1]]", "found int"), (b'[["a"], ["b", "c"]]', "found list"), (b'["a"]', "expected 2 dim")):
        with pytest.raises(InvalidRequest, match=why):
            arrays_of_json(wrong, [NAMES])


@pytest.mark.parametrize(
    ("dtype", "value", "why"),
    [
        ("uint8", "[300, 1]", "expected numbers that uint8 can hold, found 1 to 300"),
        ("uint8", "[-1, 1]", "found -1 to 1"),
        ("uint8", "[1.5, 2]", "expected whole numbers"),
        ("uint8", '["1", "2"]', "expected whole numbers"),
        ("uint8", "[null, 2]", "expected whole numbers"),
        ("int64", f"[{2**64}, 1]", "expected whole numbers"),
        ("float32", "[1e39, 1]", r"expected numbers that float32 can hold, found up to 1e\+39"),
        ("float32", "[true, false]", "expected numbers"),
        ("bool", "[0, 1]", "expected true and false"),
        ("complex64", "[1, 2]", "JSON has no complex64"),
        ("float32", "[[1], [2, 3]]", "expected nested lists of equal lengths"),
        ("float32", "[1, 2, 3]", "expected 2 along axis 0"),
    ],
)
def test_numbers_that_the_input_cannot_hold_are_refused(dtype: str, value: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        arrays_of_json(f'{{"x": {value}}}'.encode(), [TensorSpec("x", dtype, (2,))])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ('{"x": [1, 2]}', "expected a JSON object with the keys x, y; found the keys x"),
        ('{"x": [1, 2], "y": 1, "z": 2}', "found the keys x, y, z"),
        ("[1, 2]", "found list"),
    ],
)
def test_inputs_that_are_missing_or_unknown_are_told(value: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        arrays_of_json(value.encode(), [X, Y])


def test_an_array_file_is_known_by_how_it_begins(tmp_path: Path) -> None:
    assert not is_array_file(b"")
    assert not is_array_file(b"\x80\x04K\x01.")
    assert not is_array_file(b"a text")
