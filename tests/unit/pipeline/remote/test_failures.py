"""Which error of ours a failed call is."""

from __future__ import annotations

import pytest

from pipeline import errors
from pipeline.errors import KserveError
from pipeline.kserve.statuses import STATUSES, error_of_failure
from pipeline.remote.failures import TOLD, Failure, error_of


@pytest.mark.parametrize("code", STATUSES)
def test_every_status_is_an_error_of_a_request(code: str) -> None:
    error = error_of(Failure(TOLD, "why", code), "r-1")
    assert isinstance(error, errors.RequestError)
    assert str(error).startswith("why")
    assert error.request == "r-1"


def test_what_may_succeed_later_is_told_from_what_will_fail_again() -> None:
    found = {code: type(error_of(Failure(TOLD, "why", code))) for code in STATUSES}
    assert found["UNAVAILABLE"] is errors.Unavailable
    assert found["RESOURCE_EXHAUSTED"] is errors.Overloaded
    assert found["DEADLINE_EXCEEDED"] is errors.DeadlineExceeded
    assert found["INVALID_ARGUMENT"] is errors.BadInput
    assert found["TOO_LARGE"] is errors.InvalidRequest


@pytest.mark.parametrize("cls", errors.RequestError.__subclasses__())
def test_a_gateway_of_ours_tells_the_class_itself(cls: type[errors.RequestError]) -> None:
    told = error_of_failure(cls("why"))
    assert type(error_of(Failure.told(told, told.failure))) is cls


def test_a_missing_token_says_how_to_give_it() -> None:
    assert "token=" in str(error_of(Failure.told(KserveError("who are you?", "UNAUTHENTICATED"))))
