from __future__ import annotations

import pickle
import traceback

import pytest

from pipeline.errors import BadInput, RequestError, RequestRefused, StageFailed, request_error

TOLD = 'Traceback (most recent call last):\n  File "a.py", line 1, in process\nValueError: bad'


@pytest.mark.parametrize(
    ("code", "cls", "text"),
    [
        ("BadInput", RequestRefused, "why"),
        ("StageFailed", StageFailed, "why"),
        ("FromAFuture", RequestError, "FromAFuture: why"),
    ],
)
def test_each_code_is_an_error_with_its_request(code: str, cls: type[RequestError], text: str) -> None:
    error = request_error(code, "why", request="3fa9c-17")
    assert (type(error), str(error), error.request, error.traceback) == (cls, text, "3fa9c-17", "")
    assert error.__cause__ is None
    assert error.code == code


@pytest.mark.parametrize("cls", RequestError.__subclasses__())
def test_a_code_is_the_name_that_its_class_is_caught_by(cls: type[RequestError]) -> None:
    assert cls.code == cls.__name__
    assert type(request_error(cls.code, "why")) is cls


def test_clients_may_catch_bad_input_by_its_other_name() -> None:
    assert RequestRefused is BadInput


def test_the_traceback_of_a_stage_is_shown_with_the_error_that_is_not_caught() -> None:
    error = request_error("StageFailed", "stage work: ValueError: bad", TOLD, "3fa9c-17")
    assert error.traceback == TOLD
    shown = "".join(traceback.format_exception(type(error), error, None))
    assert TOLD in shown
    assert shown.index("in a worker of the pipeline:") < shown.index("StageFailed: stage work: ValueError: bad")


def test_an_error_of_ones_own_making_and_one_that_was_pickled_have_both() -> None:
    assert (RequestError("x").traceback, RequestError("x").request) == ("", "")
    again = pickle.loads(pickle.dumps(request_error("StageFailed", "why", TOLD, "3fa9c-17")))
    assert (type(again), str(again), again.traceback, again.request) == (StageFailed, "why", TOLD, "3fa9c-17")
