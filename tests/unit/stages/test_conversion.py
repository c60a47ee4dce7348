from __future__ import annotations

import numpy as np
import pytest

from shm.handle import itemsize
from stages.conversion import encoded
from stages.errors import SpecMismatch
from stages.spec import TensorSpec

itemsize("bfloat16")  # from then on numpy knows it by its name


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", np.ones(2)),
        ("float32", [1, 2]),
        ("float16", np.float32([1, 2])),
        ("uint8", [0, 255]),
        ("int64", np.int8([-1, 1])),
        ("uint8", [True, False]),
        ("float32", np.array([1.5, -2], ">f4")),
        ("float32", np.int64([1 << 24, -(1 << 24)])),
        ("float32", np.int64([(1 << 24) + 2, 1 << 62])),
        ("float32", [np.inf, -np.inf]),
        ("int64", np.uint64([0, (1 << 63) - 1])),
        ("float32", np.ma.array([1.0, 2.0], mask=False)),
        ("complex64", [1.5, 2]),
        ("bfloat16", [1.5, -2]),
        ("bfloat16", np.float32([0.5, np.inf])),
        ("bfloat16", np.int64([256, 1 << 40])),
        ("float32", np.array([1.5, 3], "bfloat16")),
    ],
)
def test_a_cast_that_loses_nothing_is_made(dtype: str, value: object) -> None:
    made = encoded(TensorSpec("y", dtype, (2,)), value)
    assert made.dtype.name == dtype
    assert (made == np.asarray(value)).all()


@pytest.mark.parametrize(
    ("dtype", "value", "why"),
    [
        ("uint8", [0, 256], "int64 values that do not fit into uint8"),
        ("uint8", [-1, 0], "do not fit into uint8"),
        ("int8", np.int64([0, 200]), "do not fit into int8"),
        ("int32", [0.5, 1], "expected dtype int32, found float64"),
        ("bool", [0, 1], "expected dtype bool, found int64"),
        ("float32", ["a", "b"], "expected dtype float32, found str"),
        ("uint8", [[1], [2, 3]], "expected an array of uint8: setting an array element with a sequence"),
        ("uint8", [0, 257], "int64 values that do not fit into uint8, such as 257"),
        ("float32", [1.0, 1e39], "float64 values that do not fit into float32, such as 1e\\+39"),
        ("float16", np.float32([1, -70000]), "float32 values that do not fit into float16, such as -70000.0"),
        ("float32", np.int64([0, (1 << 24) + 1]), "int64 values that do not fit into float32, such as 16777217"),
        ("float64", np.uint64([0, (1 << 64) - 1]), "uint64 values that do not fit into float64"),
        ("float16", np.int32([0, 70000]), "int32 values that do not fit into float16, such as 70000"),
        ("int64", np.uint64([0, 1 << 63]), "uint64 values that do not fit into int64, such as 9223372036854775808"),
        ("uint64", np.int64([0, -1]), "int64 values that do not fit into uint64, such as -1"),
        ("float32", [1j, 1], "expected dtype float32, found complex128"),
        ("bfloat16", [1.0, 1e39], "float64 values that do not fit into bfloat16, such as 1e\\+39"),
        ("bfloat16", np.int64([0, 257]), "int64 values that do not fit into bfloat16, such as 257"),
        ("int32", np.array([1, 2], "bfloat16"), "expected dtype int32, found bfloat16"),
        ("complex64", [1e39, 1], "float64 values that do not fit into complex64"),
        ("float32", np.ma.array([1.0, 2.0], mask=[False, True]), "a masked array has hidden values"),
        ("int64", np.array(["2026-01-01", "2026-01-02"], "M8[D]"), "expected dtype int64, found datetime64"),
    ],
)
def test_a_cast_that_loses_values_is_refused(dtype: str, value: object, why: str) -> None:
    with pytest.raises(SpecMismatch, match=f"output 'y': .*{why}"):
        encoded(TensorSpec("y", dtype, (2,)), value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1.0, float("nan")], "Out of range float values"),
        ({"score": float("-inf")}, "Out of range float values"),
        (np.float32(1), "float32 is not JSON serializable"),
        ("\ud83d", "surrogates not allowed"),
        ({(1, 2): 3}, "keys must be str"),
    ],
)
def test_what_json_has_no_form_for_is_refused_and_never_written(value: object, why: str) -> None:
    with pytest.raises(SpecMismatch, match=f"output 'tags': no JSON value: .*{why}"):
        encoded(TensorSpec.json("tags", 32), value)


def test_a_document_is_compact_and_in_utf_8() -> None:
    assert encoded(TensorSpec.json("tags", 32), {"é": [1, None]}).tobytes() == '{"é":[1,null]}'.encode()


def test_none_is_no_number() -> None:
    with pytest.raises(SpecMismatch, match="output 'y': expected float32 values, found None"):
        encoded(TensorSpec("y", "float32", (2,)), None)


def test_elements_are_bytes_and_texts_of_any_length() -> None:
    spec = TensorSpec("y", "bytes", ("n",), {"n": 4, "bytes": 99})
    made = encoded(spec, ["ü", b"\0"])
    assert (made.dtype, made.tolist()) == (object, [b"\xc3\xbc", b"\0"])
    with pytest.raises(SpecMismatch, match=r"output 'y': expected an array of bytes: expected elements of bytes.* found int"):
        encoded(spec, [1])
    with pytest.raises(SpecMismatch, match="output 'y': expected bytes values, found None"):
        encoded(spec, None)
