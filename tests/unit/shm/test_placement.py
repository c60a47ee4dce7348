from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm import placement
from shm.errors import NoRoom
from shm.placement import (
    ShmRoom,
    map_pages,
    parse_numa_maps,
    parse_smaps,
    prefault,
    residency,
    room,
    touch,
)
from shm.segment import Segment, SegmentSpec
from shm.segments import KINDS, attach, create

SLOTS, SLOT_BYTES = 4, 3 * 4096


@pytest.fixture(params=KINDS)
def segment(request: pytest.FixtureRequest) -> Iterator[Segment]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        create(request.param, SegmentSpec("placement", "pool", SLOT_BYTES, SLOTS, folder=folder)) as made,
    ):
        yield made


def test_mapping_the_pages_of_an_attached_segment_changes_no_byte_even_of_slots_that_are_out(segment: Segment) -> None:
    segment.generations[0] = 1
    for slot in range(SLOTS):
        segment.slot(slot)[:] = bytes([slot + 1]) * SLOT_BYTES
    with attach(segment.address) as other:
        assert map_pages(other) in (True, False)
        for slot in range(SLOTS):
            assert bytes(segment.slot(slot)) == bytes([slot + 1]) * SLOT_BYTES


def test_prefault_maps_every_page_and_changes_no_byte(segment: Segment) -> None:
    for slot in range(SLOTS):
        segment.slot(slot)[:] = bytes([slot + 1]) * SLOT_BYTES
    with attach(segment.address) as other:
        prefault(other)
        pages = residency(other)
        assert sum(pages.values()) == other.layout.size // os.sysconf("SC_PAGE_SIZE")
        assert pages.reason is None
        assert [set(other.slot(slot)) for slot in range(SLOTS)] == [{1}, {2}, {3}, {4}]


def test_a_mapping_that_was_not_touched_says_so() -> None:
    with create("posix", SegmentSpec("placement", "pool", SLOT_BYTES, SLOTS)) as segment:
        other = attach(segment.address)
        lines = [f"{placement._address(other):x} default file=/dev/shm/x"]
        assert parse_numa_maps(lines, placement._address(other), 4096) == {}
        other.close()


def test_touch_maps_the_free_slots_and_leaves_those_that_are_out(segment: Segment) -> None:
    for slot in range(SLOTS):
        segment.slot(slot)[:] = b"x" * SLOT_BYTES
    segment.generations[1] = 7
    segment.generations[2] = 8
    touch(segment)
    assert set(segment.slot(1)) == {ord("x")}
    for slot in (0, 2, 3):
        assert segment.slot(slot)[0] == segment.slot(slot)[4096] == segment.slot(slot)[SLOT_BYTES - 1] == 0


def test_an_old_kernel_gets_the_pages_by_hand(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_MADV_POPULATE_WRITE", 9999)
    segment.slot(0)[0] = 1
    prefault(segment)
    assert segment.slot(0)[0] == 0


def test_pages_that_cannot_be_had_are_no_room(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_madvise", lambda segment, advice: errno.ENOMEM)
    with pytest.raises(NoRoom, match="Cannot allocate memory"):
        prefault(segment)


def test_numa_maps_are_summed_over_the_parts_of_a_mapping() -> None:
    text = """\
7f0000000000 default file=/dev/shm/a dirty=9 N0=3 N1=6 kernelpagesize_kB=4
7f0000009000 default file=/dev/shm/a N1=2 Nx=4 kernelpagesize_kB=4
7f000000b000 default file=/dev/shm/b N0=100
"""
    assert parse_numa_maps(text.splitlines(), 0x7F0000000000, 0xB000) == {0: 3, 1: 8}
    assert parse_numa_maps(text.splitlines(), 0x7F0000009000, 0x2000) == {1: 2}


def test_without_numa_in_the_kernel_the_residency_says_why(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(Path, "read_text", refuse)
    pages = residency(segment)
    assert pages == {}
    assert "built without NUMA" in str(pages.reason)


def test_room_is_what_the_file_system_says() -> None:
    found = room()
    assert 0 <= found.free <= found.total
    assert found.path == "/dev/shm"
    assert str(ShmRoom("/dev/shm", 100, 7)).startswith("/dev/shm has 7 B free of 100 B")


def test_prefault_touches_from_the_cpus_given_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ran_on: list[set[int]] = []
    monkeypatch.setattr(placement, "_populate", lambda segment: ran_on.append(os.sched_getaffinity(0)))
    before = os.sched_getaffinity(0)
    with create("posix", SegmentSpec("placement", "pool", SLOT_BYTES, SLOTS)) as segment:
        prefault(segment, cpus=[min(before)])
        prefault(segment)
        segment.unlink()
    assert ran_on == [{min(before)}, before]
    assert os.sched_getaffinity(0) == before


def test_cpus_that_are_not_to_be_had_leave_the_pages_where_they_are(segment: Segment) -> None:
    before = os.sched_getaffinity(0)
    prefault(segment, cpus=[4095])
    assert sum(residency(segment).values()) == segment.layout.size // os.sysconf("SC_PAGE_SIZE")
    assert os.sched_getaffinity(0) == before


SMAPS = """\
7f0000000000-7f0000400000 rw-s 00000000 00:01 7    /dev/shm/one
Size:               4096 kB
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
7f0000400000-7f0000600000 rw-s 00000000 00:01 8    /dev/shm/two
ShmemPmdMapped:     1024 kB
"""


def test_huge_pages_are_summed_over_the_segments_own_mappings() -> None:
    lines = SMAPS.splitlines()
    assert parse_smaps(lines, 0x7F0000000000, 4 << 20) == 2 << 20
    assert parse_smaps(lines, 0x7F0000000000, 6 << 20) == 3 << 20
    assert parse_smaps(lines, 0x7F0000600000, 4096) == 0
