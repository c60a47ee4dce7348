"""Outputs as JSON, in full and in short."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.feeding.values import brief_text, headline_of, json_text
from shm.handle import itemsize

itemsize("bfloat16")  # from then on numpy knows it by its name


def in_json(value: Any) -> tuple[Any, dict[str, int]]:
    """What a strict reader gets, and what was counted as lost."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lost: Counter[str] = Counter()
    return json.loads(json_text(value, lost).decode("utf-8"), parse_constant=refuse), dict(+lost)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_has_its_own_digits_and_reads_back_as_itself(value: float) -> None:
    text = json_text(np.float32(value), Counter()).decode()
    assert np.float32(json.loads(text)) == np.float32(value)
    digits = text.lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
    assert len(digits) <= 9


@given(
    hnp.arrays(
        st.sampled_from(["uint8", "int64", "uint64", "float16", "float32", "float64", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_an_array_becomes_nested_lists_that_are_equal_to_it(array: np.ndarray) -> None:
    value, lost = in_json(array)
    assert np.array_equal(np.array(value, array.dtype).reshape(array.shape), array)
    assert lost == {}


def test_whole_numbers_are_exact_however_large() -> None:
    assert in_json(np.array([2**53 + 1, -(2**63)], np.int64))[0] == [2**53 + 1, -(2**63)]
    assert in_json(np.array([2**64 - 1], np.uint64))[0] == [2**64 - 1]
    assert in_json({"n": 10**30})[0] == {"n": 10**30}


def test_views_that_are_not_contiguous_or_not_of_this_machine_are_read_as_what_they_are() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert in_json(array.T[::-1])[0] == array.T[::-1].tolist()
    assert in_json(array.astype(">f4"))[0] == array.tolist()


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "clongdouble"])
def test_a_complex_number_is_its_two_parts(dtype: str) -> None:
    assert in_json(np.array([[1 + 2j], [0.5j]], dtype))[0] == [[[1.0, 2.0]], [[0.0, 0.5]]]
    assert in_json(np.array(1 - 1j, dtype))[0] == [1.0, -1.0]
    assert in_json(np.array([complex(math.nan, 1)], dtype)) == ([[None, 1.0]], {"NaN": 1})


def test_a_longdouble_has_all_of_its_digits() -> None:
    third = np.longdouble(1) / 3
    text = json_text(np.array([[third, 1.5]]), Counter()).decode()
    assert text == f"[[{third!s},1.5]]"
    assert np.longdouble(text[2:-6]) == third
    assert in_json(np.array([np.inf, 2], np.longdouble)) == ([None, 2.0], {"Infinity": 1})


def test_values_of_json_outputs_stay_as_they_are() -> None:
    value = {"boxes": [[1, 2.5], []], "name": None, "text": "ä\u2028", "true": True}
    assert in_json(value) == (value, {})


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_what_json_has_no_number_for_is_null_and_counted(value: float, name: str, dtype: str) -> None:
    assert in_json(np.array([value, 1, value], dtype)) == ([None, 1.0, None], {name: 2})
    assert in_json({"a": [value, {"b": value}]}) == ({"a": [None, {"b": None}]}, {name: 2})


def test_half_of_a_surrogate_pair_is_written_as_its_escape() -> None:
    assert json_text({"a": "x\ud800"}, Counter()) == b'{"a": "x\\ud800"}'


def test_the_headline_is_the_top_label_or_the_outputs_in_short() -> None:
    assert headline_of({"labels": ["cat", "dog"], "scores": [0.98765, 0.01]}) == ("cat", "0.9877")
    assert headline_of({"labels": np.array([7, 8]), "scores": np.array([0.5, 0.1], np.float32)}) == ("7", "0.5000")
    assert headline_of({"count": 3}) == ('{"count": 3}', "")
    assert headline_of({"labels": [], "scores": []}) == ('{"labels": [], "scores": []}', "")
    text, score = headline_of({"data": list(range(100))})
    assert (len(text), text[-3:], score) == (80, "...", "")


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        (np.array([7, 8]), np.array([math.nan, 0.5]), ("7", "nan")),
        (np.array([7, 8]), np.eye(2), ('{"labels": [7, 8], "scores": [[1.0, 0.0], [0.0, 1.0]]}', "")),
        (["a"], ["high"], ('{"labels": ["a"], "scores": ["high"]}', "")),
        (["a"], [None], ('{"labels": ["a"], "scores": [null]}', "")),
        ("a", 0.5, ('{"labels": "a", "scores": 0.5}', "")),
        (np.array(3), np.array(0.5), ('{"labels": 3, "scores": 0.5}', "")),
        (np.array([1]), np.array([1j]), ('{"labels": [1], "scores": [[0.0, 1.0]]}', "")),
    ],
)
def test_scores_that_are_no_list_of_numbers_are_shown_as_what_they_are(
    labels: Any, scores: Any, expected: tuple[str, str]
) -> None:
    assert headline_of({"labels": labels, "scores": scores}) == expected


class Counted(np.ndarray):
    """An array that counts how often one of its elements is read."""

    read = 0

    def __getitem__(self, index: Any) -> Any:
        type(self).read += 1
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))


def test_a_headline_reads_a_few_elements_of_a_large_array() -> None:
    array = np.zeros((1000, 1000), np.float32).view(Counted)
    Counted.read = 0
    assert headline_of({"mask": array})[0].startswith('{"mask": [[0.0, 0.0,')
    assert 0 < Counted.read < 100


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.1), "0.1"),
        (np.array([math.nan, math.inf], np.float32), "[NaN, Infinity]"),
        (np.array([True, False]), "[true, false]"),
        ({"a": "x" * 1000}, '{"a": "' + "x" * 70 + "..."),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_a_brief_text_is_json_as_far_as_it_goes(value: Any, expected: str) -> None:
    assert brief_text(value) == expected


def test_bfloat16_has_its_own_digits() -> None:
    assert in_json(np.array([0.1, 3, np.nan, -np.inf], np.float32).astype("bfloat16")) == (
        [0.1, 3.0, None, None], {"NaN": 1, "-Infinity": 1},
    )  # fmt: skip
    assert in_json(np.array(1.5, "bfloat16"))[0] == 1.5


def test_elements_are_texts_and_those_that_are_none_are_null_and_counted() -> None:
    array = np.array([[b"a", b"\xc3\xbc"], [b"\xff", b"\0"]], object)
    assert in_json(array) == ([["a", "ü"], [None, "\0"]], {"not UTF-8": 1})
    assert in_json(np.array(b"one", object)) == ("one", {})
    assert in_json(np.empty((0, 2), object)) == ([], {})


def test_elements_and_bfloat16_in_short() -> None:
    assert brief_text({"x": np.array([b"a", b"\xff"], object)}) == '{"x": ["a", "\\\\xff"]}'
    assert brief_text(np.array([b"a" * 1000], object))[:5] == '["aaa'
    assert brief_text(np.array([0.5, np.nan], "bfloat16")) == "[0.5, NaN]"
    labels = np.array([b"cat"], object)
    assert headline_of({"labels": labels, "scores": np.array([0.5], "bfloat16")}) == ("cat", "0.5000")
