"""What every kind of segment must do: the contract of `shm.segment.Segment`, for each of `KINDS`."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import shm
from shm.errors import NoRoom, SegmentClosed, SegmentCorrupt, SegmentError, SegmentExists, SegmentNotFound
from shm.layout import HEADER_BYTES, SegmentLayout
from shm.segment import Segment, SegmentAddress, SegmentSpec
from shm.segments import KINDS, attach, create

BETWEEN_PROCESSES = ("posix", "sysv", "file")
FILES = ("posix", "file")
RUN = f"conformance-{os.getpid()}"
FOLDER = f"/dev/shm/{RUN}"


def spec(**changes: object) -> SegmentSpec:
    made = SegmentSpec(run=RUN, pool="frames", slot_bytes=1000, slots=5, folder=FOLDER)
    return replace(made, **changes)


def path_of(address: SegmentAddress) -> Path:
    """The file of a segment that is one."""
    return Path(f"/dev/shm{address.name}" if address.kind == "posix" else address.name)


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[Path]:
    """That of the segments that are files, and nothing is left in it."""
    made = Path(FOLDER)
    made.mkdir(mode=0o700)
    yield made
    made.rmdir()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def segment(kind: str) -> Iterator[Segment]:
    with create(kind, spec()) as made:
        yield made


def in_another_process(code: str, address: SegmentAddress) -> subprocess.CompletedProcess[str]:
    root = str(Path(shm.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *address],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_segment_is_what_was_asked_for(segment: Segment) -> None:
    layout = segment.layout
    assert (layout.run, layout.pool, layout.slots, layout.slot_bytes) == (RUN, "frames", 5, 1024)
    assert layout.owner_pid == os.getpid()
    assert segment.number == layout.number != 0
    assert len(segment.buffer) == layout.size == SegmentLayout.total_bytes(5, 1000)
    assert not segment.buffer.readonly
    assert segment.generations.tolist() == [0] * 5
    assert not any(segment.buffer[HEADER_BYTES:])


def test_what_one_side_writes_the_other_side_reads(segment: Segment) -> None:
    with attach(segment.address) as other:
        assert other.layout == segment.layout
        segment.slot(4)[-3:] = b"abc"
        other.generations[2] = 2**64 - 1
        assert bytes(other.slot(4)[-3:]) == b"abc"
        assert segment.generations[2] == 2**64 - 1


def test_an_address_travels_as_two_strings(segment: Segment) -> None:
    kind, name = segment.address
    assert type(kind) is str
    assert type(name) is str
    attach((kind, name)).close()


def test_slots_are_aligned_and_do_not_overlap(segment: Segment) -> None:
    for slot in range(5):
        segment.slot(slot)[:] = bytes([slot + 1]) * 1024
    start = np.frombuffer(segment.slot(0), np.uint8).ctypes.data
    assert start % 4096 == 0
    assert [set(segment.slot(slot)) for slot in range(5)] == [{n} for n in (1, 2, 3, 4, 5)]
    assert segment.generations.tolist() == [0] * 5


@pytest.mark.parametrize("slot", [-1, 5, 2**40])
def test_a_slot_that_is_not_there_is_refused(segment: Segment, slot: int) -> None:
    with pytest.raises(IndexError, match=r"expected a slot 0\.\.4"):
        segment.slot(slot)


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_a_second_process_attaches_reads_and_writes(segment: Segment) -> None:
    segment.slot(3)[:5] = b"hello"
    done = in_another_process(
        "import sys; from shm.segments import attach\n"
        "with attach(tuple(sys.argv[1:])) as s:\n"
        "    print(bytes(s.slot(3)[:5]).decode(), s.layout.run); s.slot(0)[:3] = b'bye'; s.generations[1] = 7\n",
        segment.address,
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"hello {RUN}\n", "", 0)
    assert bytes(segment.slot(0)[:3]) == b"bye"
    assert segment.generations[1] == 7
    # The end of a process that attached must not take the segment with it.
    attach(segment.address).close()


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_a_second_process_keeps_an_unlinked_segment_and_no_other_one_gets_it(segment: Segment) -> None:
    with attach(segment.address) as other:
        segment.slot(0)[:2] = b"ok"
        segment.unlink()
        done = in_another_process(
            "import sys; from shm.segments import attach\nattach(tuple(sys.argv[1:]))", segment.address
        )
        assert "SegmentNotFound" in done.stderr
        assert bytes(other.slot(0)[:2]) == b"ok"


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_only_this_user_may_open_it(segment: Segment, kind: str) -> None:
    if kind in FILES:
        assert path_of(segment.address).stat().st_mode & 0o7777 == 0o600
    else:
        rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
        assert [row[2] for row in rows if int(row[0]) == int(segment.address.name, 16)] == ["600"]


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_all_its_memory_is_reserved_at_creation(segment: Segment, kind: str) -> None:
    if kind in FILES:
        reserved = path_of(segment.address).stat().st_blocks * 512
    else:
        rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
        reserved = next(int(row[14]) for row in rows if int(row[0]) == int(segment.address.name, 16))
    assert reserved == segment.layout.size


def test_a_name_that_is_taken_is_refused_and_its_owner_undisturbed(kind: str) -> None:
    with create(kind, spec(number=0x0BADCAFE)) as first:
        first.slot(0)[:4] = b"mine"
        with pytest.raises(SegmentExists, match=first.address.name):
            create(kind, spec(number=0x0BADCAFE))
        with attach(first.address) as other:
            assert bytes(other.slot(0)[:4]) == b"mine"


def test_two_segments_of_one_pool_have_different_numbers_and_names(kind: str) -> None:
    with create(kind, spec()) as one, create(kind, spec()) as two:
        assert one.number != two.number
        assert one.address != two.address


def test_after_unlink_no_process_can_attach_and_the_mapping_stays(segment: Segment) -> None:
    segment.unlink()
    with pytest.raises(SegmentNotFound, match=re.escape(segment.address.name)):
        attach(segment.address)
    segment.slot(0)[:1] = b"x"
    segment.unlink()


def test_unlink_is_no_error_if_the_segment_was_removed_already(kind: str) -> None:
    with create(kind, spec(number=0x1234)) as segment:
        type(segment)._remove(segment)
        segment.unlink()


def test_only_its_creator_may_unlink(segment: Segment) -> None:
    with attach(segment.address) as other, pytest.raises(SegmentError, match="only its creator"):
        other.unlink()
    attach(segment.address).close()


def test_a_name_that_no_segment_has_is_not_found(kind: str) -> None:
    with pytest.raises(SegmentNotFound):
        attach((kind, {"sysv": "0x7ffffff1", "file": f"{FOLDER}/trtlab.none"}.get(kind, "/trtlab.no.such.segment")))


@pytest.mark.parametrize("name", ["", "/", "/../../etc/passwd", "no such\x00name", "0xffffffffffffffffffffffff", "x" * 300])
def test_a_name_that_makes_no_sense_is_not_found(kind: str, name: str) -> None:
    with pytest.raises(SegmentNotFound):
        attach((kind, name))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SegmentError, match="expected one of posix, sysv, file, local"):
        attach(("floppy", "a:"))


def tampered_size(segment: Segment, change: int) -> bytes:
    return replace(segment.layout, size=segment.layout.size + change).pack()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda s: s.buffer.__setitem__(slice(0, 8), b"GARBAGE!"), r"expected magic b'TRTLABSM', found b'GARBAGE!'"),
        (lambda s: s.buffer.__setitem__(8, 99), "expected layout version 1, found 99"),
        (lambda s: s.buffer.__setitem__(slice(0, HEADER_BYTES), bytes(HEADER_BYTES)), "not a segment of ours"),
        (lambda s: s.buffer.__setitem__(slice(0, HEADER_BYTES), tampered_size(s, 4096)), "truncated; its header says"),
        (lambda s: s.buffer.__setitem__(slice(0, HEADER_BYTES), tampered_size(s, -4096)), "expected size"),
        (lambda s: s.buffer.__setitem__(slice(20, 24), b"\xff" * 4), r"expected slots 1\.\.1048576, found 4294967295"),
    ],
    ids=["magic", "version", "zeros", "truncated", "too-small", "slots"],
)
def test_what_is_damaged_is_refused_with_what_was_expected_and_found(
    segment: Segment, tamper: Callable[[Segment], None], message: str
) -> None:
    tamper(segment)
    with pytest.raises(SegmentCorrupt, match=message) as refusal:
        attach(segment.address)
    assert segment.address.name in str(refusal.value)


@pytest.mark.parametrize("length", [0, 10, HEADER_BYTES - 1, HEADER_BYTES, 4096])
@pytest.mark.parametrize("kind", FILES, indirect=True)
def test_a_file_that_was_truncated_is_refused(kind: str, length: int) -> None:
    with create(kind, spec(slots=9)) as segment:
        os.truncate(path_of(segment.address), length)
        with pytest.raises(SegmentCorrupt, match="truncated"):
            attach(segment.address)


def test_a_foreign_sysv_segment_is_refused() -> None:
    import sysv_ipc

    foreign = sysv_ipc.SharedMemory(0x7ABCDEF1, sysv_ipc.IPC_CREX, mode=0o600, size=100)
    try:
        with pytest.raises(SegmentCorrupt, match="truncated; expected a header of 1024 B, found 100 B"):
            attach(("sysv", "0x7abcdef1"))
    finally:
        foreign.remove()
        foreign.detach()


def test_a_view_outlives_close_and_unlink(segment: Segment) -> None:
    with attach(segment.address) as other:
        view = np.frombuffer(other.slot(1), np.uint8)
    segment.slot(1)[:2] = b"ok"
    segment.close()
    segment.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert view[:2].tobytes() == b"ok"
    view[-1] = 9
    assert view[-1] == 9


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_the_mapping_goes_with_its_last_view(segment: Segment) -> None:
    def mapped() -> int:
        maps = Path("/proc/self/maps").read_text()
        if segment.address.kind in FILES:
            return maps.count(segment.address.name)
        return maps.count(f"/SYSV{segment.address.name[2:]}")

    other = attach(segment.address)
    view = np.frombuffer(other.slot(1), np.uint8)[10:]
    other.close()
    assert mapped() == 2
    del view
    assert mapped() == 1


def test_what_is_closed_cannot_be_used(segment: Segment) -> None:
    with attach(segment.address) as other:
        assert not other.closed
    assert other.closed
    other.close()
    for use in (lambda: other.buffer, lambda: other.generations, lambda: other.slot(0)):
        with pytest.raises(SegmentClosed, match="after close"):
            use()


def test_a_context_manager_unlinks_what_it_created_and_keeps_what_it_attached(kind: str) -> None:
    with create(kind, spec()) as segment:
        with attach(segment.address):
            pass
        attach(segment.address).close()
    with pytest.raises(SegmentNotFound):
        attach(segment.address)


def test_what_cannot_fit_is_no_room_at_creation_and_leaves_nothing(kind: str) -> None:
    with pytest.raises(NoRoom, match=str(SegmentLayout.total_bytes(1 << 10, 1 << 37))):
        create(kind, spec(slots=1 << 10, slot_bytes=1 << 37))


@pytest.mark.parametrize("kind", FILES, indirect=True)
def test_more_than_the_file_system_has_is_refused_with_the_sums(kind: str) -> None:
    place = {"posix": "/dev/shm", "file": FOLDER}[kind]
    with pytest.raises(NoRoom, match=rf"slots of \d+ B and a header need \d+ B; {place} has \d+ B free of \d+ B"):
        create(kind, spec(slots=1 << 10, slot_bytes=1 << 37))


def test_what_is_attached_for_reading_only_can_be_read_and_not_be_written(segment: Segment) -> None:
    segment.slot(3)[:4] = b"data"
    segment.generations[3] = 7
    with attach(segment.address, writable=False) as reader:
        assert bytes(reader.slot(3)[:4]) == b"data"
        assert reader.generations[3] == 7
        assert reader.buffer.readonly
        for write in (lambda: reader.slot(3).__setitem__(0, 1), lambda: reader.generations.__setitem__(3, 9)):
            with pytest.raises(TypeError, match="read-only"):
                write()
        with pytest.raises(ValueError, match="read-only"):
            np.frombuffer(reader.slot(3), np.uint8)[0] = 1
        segment.slot(3)[:4] = b"more"
        assert bytes(reader.slot(3)[:4]) == b"more"


@pytest.mark.parametrize("kind", BETWEEN_PROCESSES, indirect=True)
def test_the_kernel_itself_keeps_a_reader_from_writing(segment: Segment) -> None:
    done = in_another_process(
        "import ctypes, sys; from shm.segments import attach; import numpy as np\n"
        "s = attach(tuple(sys.argv[1:]), writable=False)\n"
        "ctypes.memset(np.frombuffer(s.slot(0), np.uint8).ctypes.data, 1, 1)\n",
        segment.address,
    )
    assert done.returncode == -signal.SIGSEGV
    assert segment.slot(0)[0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"run": ""},
        {"run": "a/b"},
        {"pool": ".."},
        {"pool": "p" * 65},
        {"slots": 0},
        {"slots": 1 << 21},
        {"slot_bytes": 0},
        {"number": 0},
        {"number": 1 << 32},
        {"lock_path": "x" * 825},
        {"lock_path": "a\0b"},
    ],
    ids=str,
)
def test_a_spec_that_makes_no_segment_is_refused_before_anything_is_made(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        spec(**changes)
