"""How much a manager may ask for: what could never be sent is refused where it is said, not waited for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import pipeline
from pipeline.client.limits import check_count, check_limits, check_seconds
from pipeline.errors import InvalidRequest


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None])
def test_a_count_is_a_whole_number_from_1_on(value: object) -> None:
    check_count("pending", 1)
    with pytest.raises(InvalidRequest, match=r"^pending: expected a whole number, 1 or more, found"):
        check_count("pending", value)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "5", None, True])
def test_seconds_are_finite_and_not_below_0(value: object) -> None:
    check_seconds("patience_s", 0)
    check_seconds("patience_s", 0.5)
    with pytest.raises(InvalidRequest, match=r"^patience_s: expected seconds, 0 or more, found"):
        check_seconds("patience_s", value)


def test_some_seconds_may_not_be_0() -> None:
    with pytest.raises(InvalidRequest, match=r"^silence_s: expected seconds, above 0, found 0"):
        check_seconds("silence_s", 0, zero=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda **limits: pipeline.connect("none", **limits),
        lambda **limits: pipeline.connect_async("none", **limits),
        lambda **limits: pipeline.InferenceManager(**limits),
        lambda **limits: pipeline.RemoteInferenceManager("grpc://127.0.0.1:1", **limits),
        lambda **limits: check_limits(**{"pending": 1, "patience_s": 1.0, **limits}),
    ],
)
def test_every_manager_refuses_them(make: Callable[..., object]) -> None:
    with pytest.raises(InvalidRequest, match="pending: expected"):
        make(pending=0)
    with pytest.raises(InvalidRequest, match="patience_s: expected"):
        make(patience_s=math.nan)
