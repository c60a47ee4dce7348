"""Rings that are looked at without a bell: the writer need not ring while the reader is awake, and no wake-up is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.wire import near_rings
from pipeline.wire.near_rings import NEAR_SLEEPS, NearRings
from pipeline.wire.spinning import SPIN_NS
from shm.ring import HEADER_BYTES, Fence, RingReader, RingWriter, framed


class Pair:
    """Both ends of a ring that is near, and has just been read."""

    def __init__(self, *, spins: bool = False, near: bool = True) -> None:
        memory = bytearray(HEADER_BYTES + 256)
        self.writer = RingWriter(memoryview(memory))
        self.reader = RingReader(memoryview(memory), 100)
        self.ready: dict[str, None] = {}
        self.near = NearRings(self.ready, spins)
        if near:
            self.near.brought("ring", self.reader)

    def write(self) -> None:
        self.writer.write(framed(b"frame"))

    def taken(self) -> list[bytes]:
        self.ready.clear()
        return self.reader.take(10)


def test_a_writer_rings_only_for_a_reader_that_may_sleep() -> None:
    pair = Pair(near=False)
    assert pair.writer.must_ring()
    pair.near.brought("ring", pair.reader)
    assert not pair.writer.must_ring()
    assert not pair.near.spin()
    assert pair.writer.must_ring()


def test_what_came_without_a_bell_is_found_by_the_next_look() -> None:
    pair = Pair()
    assert not pair.near.look()
    pair.write()
    assert pair.near.look()
    assert pair.ready == {"ring": None}
    assert pair.taken() == [b"frame"]


def at_the_fence(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """The other process acts while this one passes its fence, once."""
    passed = Fence.pass_

    def pass_(fence: Fence) -> None:
        monkeypatch.setattr(Fence, "pass_", passed)
        act()

    monkeypatch.setattr(Fence, "pass_", pass_)


def test_what_is_written_while_the_reader_falls_asleep_keeps_it_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    # R1, W1 and R3 in the drawing of shm.ring.
    pair = Pair()
    at_the_fence(monkeypatch, pair.write)
    assert pair.near.spin()
    assert pair.taken() == [b"frame"]


def test_a_writer_in_the_middle_of_its_write_rings_for_a_reader_that_falls_asleep_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # W1, R1 and W3: the reader has the frame, or hears the bell.
    pair = Pair()
    slept: list[bool] = []
    at_the_fence(monkeypatch, lambda: slept.append(not pair.near.spin()))
    pair.write()
    rung = pair.writer.must_ring()
    assert len(slept) == 1
    assert rung or slept == [False]
    assert rung


def test_a_reader_that_does_not_spin_is_rung_for_after_a_sleep_and_one_that_spins_looks_itself() -> None:
    for spins in (False, True):
        pair = Pair(spins=spins)
        assert not pair.near.spin()
        pair.near.rise(True)
        assert pair.writer.must_ring() is not spins
        pair.write()
        assert pair.near.look() is spins


def test_a_ring_that_brings_nothing_for_long_is_not_near_any_more() -> None:
    pair = Pair(spins=True)
    for _ in range(NEAR_SLEEPS):
        assert not pair.near.spin()
        pair.near.rise(False)
    assert not pair.writer.must_ring()
    assert not pair.near.spin()
    pair.near.rise(False)
    assert pair.writer.must_ring()
    pair.write()
    assert not pair.near.look()


def test_it_looks_for_as_long_as_it_pays_and_finds_what_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(spins=True)
    now = 0

    def clock() -> int:
        nonlocal now
        now += 1000
        if now == 500_000:
            pair.write()
        return now

    monkeypatch.setattr(near_rings.time, "monotonic_ns", clock)
    for _ in range(4):
        before = now
        assert not pair.near.spin()
        # It asked for the time once: it did not look.
        assert now == before + 1000
        pair.near.rise(True)
    before = now
    assert not pair.near.spin()
    assert SPIN_NS <= now - before <= SPIN_NS + 2000
    pair.near.rise(True)
    now = 480_000
    assert pair.near.spin()
    assert 500_000 <= now < 480_000 + SPIN_NS
    assert not pair.writer.must_ring()
    assert pair.taken() == [b"frame"]


def test_a_ring_that_is_forgotten_is_not_looked_at() -> None:
    pair = Pair()
    pair.near.forget("ring")
    pair.near.forget("another")
    pair.write()
    assert not pair.near.look()
    pair.near.brought("ring", pair.reader)
    pair.near.clear()
    assert not pair.near.look()
