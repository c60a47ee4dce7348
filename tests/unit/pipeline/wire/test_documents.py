from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.wire.documents import document_bytes, document_value


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "ä"]}, "\U0001f600", 10**40, -0.0, []])
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert document_value(document_bytes(value)) == value


def test_what_others_have_written_is_read() -> None:
    assert document_value('\ufeff{"pair": "\\ud83d\\ude00"}'.encode()) == {"pair": "\U0001f600"}


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, "\ud800", {1, 2}, b"bytes"])
def test_a_value_that_has_no_form_in_json_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        document_bytes(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"NaN", "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b"[1e999]", "number out of range: 1e999"),
        (b'"\\ud800"', "surrogates not allowed"),
        (b"", "Expecting value"),
        (b"1 2", "Extra data"),
        (b"\xff", "can't decode byte 0xff"),
    ],
)
def test_a_text_that_is_no_document_is_an_error(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        document_value(text)


def test_a_text_that_is_nested_too_deeply_is_an_error() -> None:
    with pytest.raises((ValueError, RecursionError)):
        document_value(b"[" * 100_000)
