"""One request's line in `--output`."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.feeding.record import Record, plain

STAGES = {"infer": {"queue_ms": 0.5, "compute_ms": 1.5, "batch": 4, "copied_bytes": 8}}


def test_an_answer_is_one_line_with_every_field_in_its_place() -> None:
    record = Record("a b.jpg", outputs={"labels": ["sfw", "ä"], "scores": [0.75, 0.25]}, latency_ms=1.23456, stages=STAGES)
    line = record.to_json()
    assert "\n" not in line
    assert list(json.loads(line).items()) == [
        ("input", "a b.jpg"),
        ("request", None),
        ("status", "ok"),
        ("error", None),
        ("outputs", {"labels": ["sfw", "ä"], "scores": [0.75, 0.25]}),
        ("latency_ms", 1.235),
        ("stages", STAGES),
    ]
    assert "ä" in line


def test_a_failure_says_its_type_and_message() -> None:
    found = json.loads(Record("x", ("BadInput", "no\npicture")).to_json())
    assert found["status"] == "error"
    assert found["error"] == {"type": "BadInput", "message": "no\npicture"}
    assert (found["outputs"], found["stages"]) == ({}, {})


def test_a_failure_has_the_traceback_of_its_stage_and_its_request() -> None:
    record = Record("x", ("StageFailed", "bad"), traceback="Traceback ...\nValueError: bad", request="3fa9c-17")
    found = json.loads(record.to_json())
    assert found["error"] == {"type": "StageFailed", "message": "bad", "traceback": "Traceback ...\nValueError: bad"}
    assert found["request"] == "3fa9c-17"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_has_its_own_digits_and_reads_back_as_itself(value: float) -> None:
    text = json.dumps(plain(np.float32(value)))
    assert np.float32(json.loads(text)) == np.float32(value)
    digits = text.lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
    assert len(digits) <= 9


@given(
    hnp.arrays(
        st.sampled_from(["uint8", "int64", "float16", "float32", "float64", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_an_array_becomes_nested_lists_that_are_equal_to_it(array: np.ndarray) -> None:
    value = json.loads(json.dumps(plain(array)))
    assert np.array_equal(np.array(value, array.dtype).reshape(array.shape), array)


def test_values_of_json_outputs_stay_as_they_are() -> None:
    value = {"boxes": [[1, 2.5], []], "name": None, "nothing": math.nan}
    assert plain(value) == {**value, "nothing": None}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_null(value: float) -> None:
    line = Record("x", outputs={"scores": plain(np.array([value, 1], "float32")), "one": plain(np.float64(value))}).to_json()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(line, parse_constant=refuse)["outputs"] == {"scores": [None, 1.0], "one": None}


def test_the_headline_is_the_top_label_or_the_outputs_in_short() -> None:
    assert Record("x", outputs={"labels": ["cat", "dog"], "scores": [0.98765, 0.01]}).headline() == ("cat", "0.9877")
    assert Record("x", outputs={"count": 3}).headline() == ('{"count": 3}', "")
    assert Record("x", outputs={"labels": [], "scores": []}).headline() == ('{"labels": [], "scores": []}', "")
    text, score = Record("x", outputs={"data": list(range(100))}).headline()
    assert (len(text), text[-3:], score) == (80, "...", "")
