"""However rows lie, the copies bring each of them to its place, and are as few as can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.engines.cuda import MAX_PITCH
from stages.engines.transfers import Transfer, transfers_of

A, B = object(), object()


def test_rows_side_by_side_are_one_stretch() -> None:
    assert transfers_of([(100, A), (108, A), (116, A)], 8) == [Transfer(0, 100, 24, 24, 1)]


def test_rows_equally_far_apart_are_one_copy() -> None:
    assert transfers_of([(0, A), (64, A), (128, A), (192, A)], 8) == [Transfer(0, 0, 8, 64, 4)]


def test_a_break_begins_another_copy() -> None:
    assert transfers_of([(0, A), (64, A), (640, A), (648, A)], 8) == [
        Transfer(0, 0, 8, 64, 2),
        Transfer(16, 640, 16, 16, 1),
    ]


def test_one_row_alone_is_one_stretch() -> None:
    assert transfers_of([(640, A)], 8) == [Transfer(0, 640, 8, 8, 1)]


def test_rows_that_go_back_or_overlap_are_copied_one_by_one() -> None:
    assert transfers_of([(640, A), (64, A), (64, A), (68, A)], 8) == [
        Transfer(0, 640, 8, 8, 1),
        Transfer(8, 64, 8, 8, 1),
        Transfer(16, 64, 8, 8, 1),
        Transfer(24, 68, 8, 8, 1),
    ]


def test_no_copy_reaches_into_another_segment() -> None:
    assert transfers_of([(0, A), (8, B), (16, B)], 8) == [Transfer(0, 0, 8, 8, 1), Transfer(8, 8, 16, 16, 1)]


@pytest.mark.parametrize(("apart", "copies"), [(MAX_PITCH, 1), (MAX_PITCH + 1, 2)])
def test_no_pitch_is_larger_than_the_driver_takes(apart: int, copies: int) -> None:
    assert len(transfers_of([(0, A), (apart, A)], 8)) == copies


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([A, B])), max_size=12), st.sampled_from([4, 8, 12]))
def test_every_row_comes_to_its_place(slots: list[tuple[int, object]], nbytes: int) -> None:
    places = [(slot * 12, owner) for slot, owner in slots]
    dense: dict[int, int] = {}
    for offset, address, length, pitch, rows in transfers_of(places, nbytes):
        for row in range(rows):
            for byte in range(length):
                assert offset + row * length + byte not in dense
                dense[offset + row * length + byte] = address + row * pitch + byte
    wanted = {
        number * nbytes + byte: address + byte for number, (address, _) in enumerate(places) for byte in range(nbytes)
    }
    assert dense == wanted
