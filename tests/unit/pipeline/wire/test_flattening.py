"""Lists among a stage's inputs travel as flat fields and come out again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.flattening import flatten, parts, position_of


@pytest.mark.parametrize(
    ("inputs", "flat", "lengths"),
    [
        ([7, [1, 2, 3]], (7, 1, 2, 3), (-1, 3)),
        ([[], 7], (7,), (0, -1)),
        ([[4]], (4,), (1,)),  # a list of one is a list
        ([], (), ()),
    ],
)
def test_lists_are_put_one_after_the_other_and_their_lengths_beside_them(
    inputs: list[int | list[int]], flat: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    assert flatten(inputs, takes_many=True) == (flat, lengths)


def test_a_stage_that_takes_no_list_has_no_lengths() -> None:
    assert flatten([7, 8], takes_many=False) == ((7, 8), ())
    assert list(parts((7, 8), ())) == [((7,), False), ((8,), False)]
    assert position_of(1, ()) == 1


@given(st.lists(st.integers() | st.lists(st.integers())))
def test_what_was_flattened_comes_out_input_by_input(inputs: list[int | list[int]]) -> None:
    flat, lengths = flatten(inputs, takes_many=True)
    assert [list(part) if many else part[0] for part, many in parts(flat, lengths)] == inputs
    starts = [position_of(index, lengths) for index in range(len(inputs))]
    assert [flat[start : start + len(part)] for start, (part, _) in zip(starts, parts(flat, lengths))] == [
        part for part, _ in parts(flat, lengths)
    ]
