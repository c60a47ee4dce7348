"""Rings: whatever the order of writes and reads, and whatever the other end writes into the memory."""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shm import sealed
from shm.errors import RingBroken
from shm.ring import HEADER_BYTES, Fence, RingReader, RingWriter, framed, why_no_rings

MOST = 1000

frames = st.lists(st.binary(max_size=60), max_size=30)


def ring(capacity: int = 64) -> tuple[memoryview, RingWriter, RingReader]:
    memory = memoryview(bytearray(HEADER_BYTES + capacity))
    return memory, RingWriter(memory), RingReader(memory, MOST)


def words(memory: memoryview) -> memoryview:
    """Head at 0, tail at 16."""
    return memory[:HEADER_BYTES].cast("Q")


@given(capacity=st.integers(1, 80), sent=frames, steps=st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=200))
def test_frames_come_whole_and_in_order_whatever_the_turns_are(
    capacity: int, sent: list[bytes], steps: list[tuple[bool, int]]
) -> None:
    _, writer, reader = ring(capacity)
    stream = b"".join(framed(frame) for frame in sent)
    got: list[bytes] = []
    for writes, most in steps:
        if writes:
            before = writer.position
            assert before + writer.write(stream, before) == writer.position <= len(stream)
        else:
            fresh = reader.take(most)
            assert len(fresh) <= most
            got += fresh
        assert got == sent[: len(got)]
    while len(got) < len(sent):
        writer.write(stream, writer.position)
        got += reader.take(100)
    assert got == sent
    assert not reader.waiting


def test_a_full_ring_takes_what_fits_and_the_rest_once_there_is_room() -> None:
    _, writer, reader = ring(10)
    data = framed(b"twelve bytes")
    assert writer.write(data) == 10
    assert writer.write(data, 10) == 0
    assert reader.take(9) == []
    assert not reader.waiting
    assert writer.write(data, 10) == 6
    assert reader.waiting
    assert reader.take(9) == [b"twelve bytes"]


def test_no_more_frames_are_taken_than_are_wanted_and_the_others_wait() -> None:
    _, writer, reader = ring()
    writer.write(framed(b"a") + framed(b"b") + framed(b"c"))
    assert reader.take(2) == [b"a", b"b"]
    assert reader.waiting
    assert reader.take(2) == [b"c"]
    assert not reader.waiting
    assert reader.take(2) == []


@given(st.integers(0, 2**64 - 1))
@example(7)
@example(8 + 64)
@example(8 + 65)
def test_a_head_that_cannot_be_is_refused_and_nothing_else_is_read(head: int) -> None:
    memory, writer, reader = ring(64)
    writer.write(framed(b"good"))
    assert reader.take(1) == [b"good"]
    words(memory)[0] = head
    if 8 <= head <= 8 + 64:
        reader.take(100)
    else:
        with pytest.raises(RingBroken, match="written up to"):
            reader.take(100)


@given(st.integers(0, 2**64 - 1))
@example(7)
@example(28)
@example(29)
def test_a_tail_that_cannot_be_is_refused_and_nothing_is_written(tail: int) -> None:
    memory, writer, reader = ring(64)
    writer.write(framed(b"good"))
    assert reader.take(1) == [b"good"]
    writer.write(framed(b"more"))
    writer.write(framed(b"and more"))
    # What the writer has seen of it: that it was 8.
    at, before = writer.position, bytes(memory[HEADER_BYTES:])
    words(memory)[16] = tail
    if 8 <= tail <= at:
        assert writer.write(b"x" * 100) <= 64
    else:
        with pytest.raises(RingBroken, match="read up to"):
            writer.write(b"x" * 100)
        assert writer.position == at
        assert bytes(memory[HEADER_BYTES:]) == before


@given(st.lists(st.tuples(st.integers(0, HEADER_BYTES + 63), st.integers(0, 255)), max_size=60), st.binary(max_size=200))
def test_whatever_is_scribbled_into_the_memory_ends_in_frames_or_a_refusal(
    scribbles: list[tuple[int, int]], data: bytes
) -> None:
    memory, writer, reader = ring(64)
    held = 0
    try:
        for place, value in scribbles:
            memory[place] = value
            writer.write(data)
            for frame in reader.take(10):
                assert len(frame) <= MOST
            held = max(held, len(reader._state[1]))
    except RingBroken:
        pass
    assert held <= MOST + 4 + 64 + 65536


def test_a_frame_above_the_limit_is_refused_before_it_is_there() -> None:
    _, writer, reader = ring(64)
    writer.write(struct.pack("<I", MOST + 1))
    with pytest.raises(RingBroken, match=f"a frame of {MOST + 1} bytes in a ring; expected at most {MOST}"):
        reader.take(1)


def test_a_large_frame_in_small_pieces_is_gathered_in_one_place() -> None:
    _, writer, reader = ring(7)
    frame = bytes(range(250)) * 4
    data = framed(frame)
    pieces = set()
    while not (got := reader.take(1)):
        writer.write(data, writer.position)
        pieces.add(id(reader._state[1]))
    assert got == [frame]
    # Otherwise a writer that sends byte after byte would cost the reader a copy of all of them each.
    assert len(pieces) <= 3


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("first", [b"", b"x" * 20])
def test_a_read_that_was_interrupted_before_it_was_noted_is_done_again(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer, reader = ring(64)
    data = framed(first + b"abc") + framed(b"def")
    for part in (8, 18) if first else ():
        # In two, so that they are gathered already.
        writer.write(data[:part], writer.position)
        assert reader.take(5) == []
    writer.write(data[:-3], writer.position)
    cut, calls = reader._cut, 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Interrupted
        return cut(*args)

    monkeypatch.setattr(reader, "_cut", interrupted)
    with pytest.raises(Interrupted):
        reader.take(5)
    # Meanwhile there is more of it.
    writer.write(data, writer.position)
    assert reader.take(5) == [first + b"abc", b"def"]


def test_memory_that_holds_no_data_is_no_ring() -> None:
    with pytest.raises(ValueError, match="expected more than 256 bytes"):
        RingWriter(memoryview(bytearray(HEADER_BYTES)))


def test_only_machines_that_order_memory_have_rings_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [why_no_rings(machine) for machine in ("x86_64", "AMD64", "i686")] == [""] * 3
    why = "its processors do not order memory as rings need it (they are not x86)"
    assert [why_no_rings(machine) for machine in ("aarch64", "armv7l", "riscv64")] == [why] * 3
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert why_no_rings() == why
    monkeypatch.delattr(os, "memfd_create")
    assert why_no_rings("x86_64") == "its Python has no memfd_create or no eventfd"


def _write(fd: int, size: int, count: int) -> None:
    writer = RingWriter(sealed.map_sealed(fd, size))
    for number in range(count):
        data = framed(bytes([number % 251]) * (number % 700))
        begin = writer.position
        while writer.position < begin + len(data):
            writer.write(data, writer.position - begin)


@pytest.fixture
def shared() -> Iterator[tuple[int, int]]:
    size = HEADER_BYTES + 1000
    fd = sealed.create("ring-of-a-test", size)
    yield fd, size
    os.close(fd)


def test_what_another_process_writes_comes_as_it_was(shared: tuple[int, int]) -> None:
    fd, size = shared
    reader = RingReader(sealed.map_sealed(fd, size), MOST)
    os.set_inheritable(fd, True)
    process = get_context("fork").Process(target=_write, args=(fd, size, 3000), daemon=True)
    process.start()
    number = 0
    while number < 3000:
        for frame in reader.take(64):
            assert frame == bytes([number % 251]) * (number % 700)
            number += 1
    process.join()
    assert process.exitcode == 0


def test_a_fence_is_passed_although_an_interrupted_call_has_left_its_lock_taken() -> None:
    fence = Fence()
    fence.pass_()
    fence._lock.acquire()
    fence.pass_()
    assert not fence._lock.locked()
