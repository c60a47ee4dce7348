from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.parameters import (
    EMPTY_FINAL,
    Scheduling,
    check_parameters,
    kserve_priority,
    our_priority,
    output_parameters,
    region_parameters,
    scheduling_of,
    take_output,
    take_region,
)
from pipeline.kserve.values import Region


def test_priority_0_is_the_default_and_1_the_highest_where_ours_is_0() -> None:
    assert [our_priority(each) for each in (0, 1, 2, 10, 11, 2**64 - 1)] == [None, 0, 1, 9, 9, 9]
    assert [kserve_priority(each) for each in (None, 0, 9)] == [0, 1, 10]


def test_what_a_request_says_of_when_it_runs() -> None:
    given = {"timeout": 5, "priority": 2, "sequence_id": 7, "sequence_start": True, "sequence_end": False, "other": 1.5}
    assert scheduling_of(given) == Scheduling(5, 1, 7, True, False)
    assert scheduling_of({}) == scheduling_of({"timeout": 0, "priority": 0, "sequence_id": 0}) == Scheduling()
    assert scheduling_of({"sequence_id": ""}).sequence == ""
    assert scheduling_of({"sequence_id": "s"}).sequence == "s"
    assert scheduling_of({EMPTY_FINAL: True}) == Scheduling()


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"triton_x": 1}, "'triton_x': keys that start with 'triton_' are reserved"),
        ({"timeout": "5"}, "'timeout' of the request: expected a whole number of at least 0, found '5'"),
        ({"timeout": -5}, "found '-5'"),
        ({"timeout": 5.5}, "found '5.5'"),
        ({"priority": -1}, "'priority'"),
        ({"priority": True}, "'priority' of the request: expected a whole number"),
        ({"sequence_id": 1.5}, "'sequence_id'"),
        ({"sequence_id": -1}, "'sequence_id'"),
        ({"sequence_start": 1}, "'sequence_start' of the request: expected true or false"),
        ({"sequence_end": "x"}, "'sequence_end'"),
        ({EMPTY_FINAL: 1}, "expected true or false"),
    ],
)
def test_of_another_type_or_reserved_they_are_refused(parameters: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        scheduling_of(parameters)


def test_values_are_of_four_types_and_integers_of_64_bits() -> None:
    check_parameters({"a": True, "b": 2**64 - 1, "c": -(2**63), "d": 0.5, "e": ""}, "it", 5)
    for value in (None, [], {}, 2**64, -(2**63) - 1):
        with pytest.raises(KserveError, match="parameter 'x' of it: expected"):
            check_parameters({"x": value}, "it", 5)
    with pytest.raises(KserveError, match="at most 1 parameters of it, found 2"):
        check_parameters({"a": 1, "b": 1}, "it", 1)


@pytest.mark.parametrize("region", [Region("r", 0, 0), Region("r", 8, 2**64)])
def test_a_region_is_taken_out_of_the_parameters_and_put_back(region: Region) -> None:
    parameters = {**region_parameters(region), "other": 1}
    assert take_region(parameters, "it") == region
    assert parameters == {"other": 1}
    assert take_region(parameters, "it") is None


def test_an_output_is_taken_out_of_its_parameters_and_put_back() -> None:
    given: dict[str, Any] = {"binary_data": False, "classification": 2, "other": "x"}
    output = take_output("o", dict(given))
    assert (output.binary, output.classes, dict(output.parameters)) == (False, 2, {"other": "x"})
    assert output_parameters(output) == given
