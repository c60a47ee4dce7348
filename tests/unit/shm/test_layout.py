from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shm.errors import SegmentCorrupt
from shm.layout import ALIGNMENT, HEADER_BYTES, MAGIC, VERSION, SegmentLayout, ceil_div, round_up

LAYOUT = SegmentLayout.build(
    number=0xDEADBEEF, slots=3, slot_bytes=100, run="resnet", pool="ingress", lock_path="/run/x/owner.lock",
    owner_pid=4711, owner_start=191556, created_ns=1_700_000_000_000_000_000,
)  # fmt: skip


@pytest.mark.parametrize(("n", "by", "parts"), [(0, 64, 0), (1, 64, 1), (64, 64, 1), (65, 64, 2), (9, 3, 3), (10, 3, 4)])
def test_what_does_not_divide_is_rounded_up(n: int, by: int, parts: int) -> None:
    assert ceil_div(n, by) == parts
    assert round_up(n, by) == parts * by


def test_slots_and_tensors_are_rounded_up_to_the_alignment() -> None:
    assert [round_up(n) for n in (0, 1, ALIGNMENT, ALIGNMENT + 1)] == [0, ALIGNMENT, ALIGNMENT, 2 * ALIGNMENT]


def test_the_header_is_the_drawn_map() -> None:
    header = LAYOUT.pack()
    assert len(header) == HEADER_BYTES
    assert header[0:8] == MAGIC
    assert struct.unpack_from("<IIII", header, 8) == (VERSION, HEADER_BYTES, 0xDEADBEEF, 3)
    assert struct.unpack_from("<QQQ", header, 24) == (128, 4096, 8192)
    assert struct.unpack_from("<QQQ", header, 48) == (4711, 191556, 1_700_000_000_000_000_000)
    assert header[72:136] == b"resnet".ljust(64, b"\0")
    assert header[136:200] == b"ingress".ljust(64, b"\0")
    assert header[200:1024] == b"/run/x/owner.lock".ljust(824, b"\0")
    assert LAYOUT.table == slice(1024, 1048)
    assert [LAYOUT.slot_offset(n) for n in range(3)] == [4096, 4224, 4352]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=16)


@given(
    number=st.integers(1, 2**32 - 1), slots=st.integers(1, 1 << 20), slot_bytes=st.integers(1, 1 << 27), run=texts,
    pool=texts, lock_path=texts, owner_pid=st.integers(0, 2**64 - 1), owner_start=st.integers(0, 2**64 - 1),
    created_ns=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_what_is_packed_parses_equal_and_its_parts_do_not_overlap(slots: int, slot_bytes: int, **rest: object) -> None:
    layout = SegmentLayout.build(slots=slots, slot_bytes=slot_bytes, **rest)  # type: ignore[arg-type]
    assert SegmentLayout.parse(layout.pack()) == layout
    assert layout.size == SegmentLayout.total_bytes(slots, slot_bytes)
    assert layout.slot_bytes % 64 == layout.data_offset % 4096 == layout.size % 4096 == 0
    assert slot_bytes <= layout.slot_bytes < slot_bytes + 64
    assert layout.table.stop <= layout.data_offset
    assert layout.slot_offset(slots) <= layout.size < layout.slot_offset(slots) + 2 * 4096


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1])
def test_less_than_a_header_is_truncated(length: int) -> None:
    with pytest.raises(SegmentCorrupt, match=f"here: truncated; expected a header of 1024 bytes, found {length}"):
        SegmentLayout.parse(LAYOUT.pack()[:length], "here")


@pytest.mark.parametrize(
    ("offset", "field", "found"),
    [
        (8, "<I", "expected layout version 1, found 7"),
        (12, "<I", "expected header bytes 1024, found 7"),
        (24, "<Q", "expected slot_bytes a positive multiple of 64 up to .*, found 7"),
        (32, "<Q", "expected data_offset page aligned and >= 1048, found 7"),
        (40, "<Q", "expected size 4480.*, found 7"),
    ],
)
def test_a_nonsense_number_is_refused_with_what_was_expected(offset: int, field: str, found: str) -> None:
    header = bytearray(LAYOUT.pack())
    struct.pack_into(field, header, offset, 7)
    with pytest.raises(SegmentCorrupt, match=found):
        SegmentLayout.parse(header)


@pytest.mark.parametrize("changes", [{"number": 0}, {"slots": 0}, {"slots": 1 << 30}, {"slot_bytes": 0}])
def test_zero_and_absurd_numbers_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(SegmentCorrupt, match=next(iter(changes))):
        SegmentLayout.parse(replace(LAYOUT, **changes).pack())


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES).map(lambda tail: MAGIC + LAYOUT.pack()[8:20] + tail))
def test_a_random_header_is_refused_or_makes_sense(data: bytes) -> None:
    try:
        layout = SegmentLayout.parse(data)
    except SegmentCorrupt:
        return
    assert layout.table.stop <= layout.data_offset
    assert layout.slot_offset(layout.slots) <= layout.size


@pytest.mark.parametrize(("size", "what"), [(8191, "truncated"), (0, "truncated"), (8193, "too large")])
def test_an_object_of_another_size_is_refused(size: int, what: str) -> None:
    LAYOUT.validate(8192)
    with pytest.raises(SegmentCorrupt, match=f"here: {what}; its header says 8192 bytes, the object has {size}"):
        LAYOUT.validate(size, "here")
