from __future__ import annotations

import math
from typing import Any

import pytest

from stages.errors import BadOption
from stages.video.options import box_of, fraction, known_keys, mapping_of, number, polygon_of, polygons_of, texts_of


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (number, "3", "x: expected a number, found '3'"),
        (number, True, "found True"),
        (number, math.nan, "found nan"),
        (number, math.inf, "found inf"),
        (fraction, 1.01, "from 0 to 1, found 1.01"),
        (fraction, math.nan, "found nan"),
        (fraction, True, "found True"),
        (mapping_of, [1], "expected a mapping by name"),
        (mapping_of, {1: 2}, "expected a mapping by name"),
        (texts_of, "person", "expected a list of texts, found 'person'"),
        (texts_of, [1], "expected a list of texts"),
        (polygon_of, [[0, 0], [1, 1]], "at least three corners"),
        (polygon_of, None, "at least three corners"),
        (polygon_of, [[0, 0], [1, 1], [1]], r"expected corners \[x, y\] from 0 to 1, found \[1\]"),
        (polygon_of, [[0, 0], [1, 1], "ab"], r"expected corners \[x, y\]"),
        (polygon_of, [[0, 0], [1, 1], [0, 2]], "from 0 to 1, found 2"),
        (polygons_of, {"a": 1}, "expected a list of polygons"),
        (polygons_of, [[[0, 0]]], r"x\[0\]: expected a polygon"),
        (box_of, [0, 0, 1], r"expected \[y_min"),
        (box_of, "0011", r"expected \[y_min"),
        (box_of, [0.5, 0, 0.2, 1], "expected y_min < y_max"),
    ],
)
def test_what_is_something_else_is_refused_with_its_place(read: Any, value: Any, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        read("x", value)


def test_bounds_of_numbers_are_kept_and_told() -> None:
    assert number("x", 0, at_least=0) == 0.0
    with pytest.raises(BadOption, match="of at least 0, found -1"):
        number("x", -1, at_least=0)


def test_values_come_out_as_they_are() -> None:
    assert polygons_of("x", [[[0, 0], [1, 0], [1, 1]]]) == (((0, 0), (1, 0), (1, 1)),)
    assert box_of("x", [0, 0.5, 1, 1]) == (0, 0.5, 1, 1)
    assert mapping_of("x", None) == {}
    assert texts_of("x", ["a", "b"]) == ("a", "b")


def test_a_name_that_is_misspelled_is_refused_with_the_right_one() -> None:
    known_keys("x", {"zones": 1}, ["zones", "rules"])
    with pytest.raises(BadOption, match=r"x: no option 'zone' \(did you mean zones\?\)"):
        known_keys("x", {"zone": 1}, ["zones", "rules"])
