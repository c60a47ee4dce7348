from __future__ import annotations

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.http_body import Body, header_length, json_parameters, split
from pipeline.kserve.values import Limits


def test_the_header_says_where_the_json_ends() -> None:
    text, tail = split(b'{"a":1}1234', "7", Limits())
    assert (bytes(text), bytes(tail)) == (b'{"a":1}', b"1234")
    text, tail = split(b'{"a":1}', None, Limits())
    assert (bytes(text), bytes(tail)) == (b'{"a":1}', b"")
    assert split(b"12", "2", Limits())[1].nbytes == 0


@pytest.mark.parametrize(("text", "found"), [(None, None), ("0", 0), ("007", 7), ("10", 10)])
def test_the_header_is_a_whole_number_within_the_body(text: str | None, found: int | None) -> None:
    assert header_length(text, 10) == found
    with pytest.raises(KserveError, match="expected at most the 10 bytes of the body, found 11"):
        header_length("11", 10)
    for wrong in ("9" * 5000, "-1", "1.0", "٣"):  # Python reads the last, and not the first
        with pytest.raises(KserveError, match="expected a whole number"):
            header_length(wrong, 10)


def test_a_body_knows_its_size_without_being_joined() -> None:
    assert Body((b"12", memoryview(b"345")), 2).nbytes == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_no_parameter(value: float) -> None:
    assert json_parameters({"a": 1, "b": 0.5, "c": True}, "it") == {"a": 1, "b": 0.5, "c": True}
    with pytest.raises(KserveError, match="parameter 'x' of it: expected a finite number"):
        json_parameters({"x": value}, "it")
