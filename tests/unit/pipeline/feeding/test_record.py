"""One request's line in `--output`."""

from __future__ import annotations

import json

import pytest

from pipeline.feeding.record import Record, shown

STAGES = {"infer": {"queue_ms": 0.5, "compute_ms": 1.5, "batch": 4, "copied_bytes": 8}}


def test_an_answer_is_one_line_with_every_field_in_its_place() -> None:
    record = Record("a b.jpg", outputs='{"labels": ["sfw", "ä"]}'.encode(), latency_ms=1.23456, stages=STAGES)
    line = record.to_json()
    assert b"\n" not in line
    assert list(json.loads(line).items()) == [
        ("input", "a b.jpg"),
        ("status", "ok"),
        ("error", None),
        ("outputs", {"labels": ["sfw", "ä"]}),
        ("latency_ms", 1.235),
        ("stages", STAGES),
        ("request", None),
    ]
    # As it always was: scripts look for just this.
    assert line.startswith('{"input": "a b.jpg", "status": "ok", "error": null, "outputs": {"labels": ["sfw", "ä"]}'.encode())


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


def test_what_became_null_is_told_beside_it() -> None:
    found = json.loads(Record("x", outputs=b'{"a": [null]}', lost={"a": {"NaN": 1}}).to_json())
    assert found["nulls"] == {"a": {"NaN": 1}}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.png", "a.png"),
        ("猫.png".encode(), "猫.png"),
        (b"caf\xe9.bin", "caf\\xe9.bin"),
        (b"\xff\xc3\xa9", "\\xffé"),
    ],
)
def test_bytes_of_a_name_that_are_no_utf8_are_escapes_and_the_line_is_utf8(name: bytes, expected: str) -> None:
    text = shown(name.decode("utf-8", "surrogateescape"))
    assert text == expected
    assert json.loads(Record(text).to_json().decode("utf-8"))["input"] == expected
