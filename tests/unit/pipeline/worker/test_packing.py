"""Where outputs lie in a slot that is smaller than the largest."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.worker.packing import Packing, SlotTooSmall


def test_outputs_lie_one_after_the_other_as_they_are_asked_for() -> None:
    packing = Packing(256)
    assert [packing.place("b", 1), packing.place("a", 65), packing.place("c", 64)] == [0, 64, 192]
    assert packing.needed == 0


def test_what_does_not_fit_is_refused_and_remembered() -> None:
    packing = Packing(128)
    packing.place("a", 100)
    with pytest.raises(SlotTooSmall, match=r"output 'b': 1 bytes at 128 do not fit a slot of 128; .* larger one"):
        packing.place("b", 1)
    assert packing.needed == 192
    with pytest.raises(SlotTooSmall):
        packing.place("a", 129)
    assert packing.needed == 192


def test_the_last_one_may_grow_and_shrink_where_it_is() -> None:
    packing = Packing(256)
    assert [packing.place("a", 64), packing.place("b", 64)] == [0, 64]
    assert [packing.place("b", 192), packing.place("b", 1), packing.place("c", 128)] == [64, 64, 128]


def test_another_one_stays_where_it_fits_and_else_moves_to_the_end() -> None:
    packing = Packing(512)
    assert [packing.place("a", 128), packing.place("b", 64)] == [0, 128]
    assert [packing.place("a", 10), packing.place("a", 129)] == [0, 192]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300)), max_size=12))
def test_no_two_outputs_ever_overlap_and_none_leads_out(asked: list[tuple[str, int]]) -> None:
    packing = Packing(512)
    places: dict[str, tuple[int, int]] = {}
    for name, nbytes in asked:
        try:
            places[name] = packing.place(name, nbytes), nbytes
        except SlotTooSmall:
            assert packing.needed > 512
            break
        spans = sorted((at, at + size) for at, size in places.values() if size)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert all(at % 64 == 0 and at + size <= 512 for at, size in places.values())
