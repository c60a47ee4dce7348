"""The sending end of rings: in order, never blocking, and by ZeroMQ wherever there is no ring."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StartError, WireError
from pipeline.wire import handover, rings, zeromq
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Hello, Ready, StageBroken, WorkerReport
from shm import sealed
from tests.unit.pipeline.wire.ring_ends import WORKER, bye, byes, ends, targets


def test_the_first_message_goes_by_zeromq_and_the_others_by_a_ring(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        for first in (Hello(7, "app"), Ready(3, 0, 0, 1, 1)):
            made.outbox.send(first)
            assert not made.outbox.has_ring
            assert made.received(1) == [first]
        made.outbox.send(bye(1))
        made.outbox.send(bye(2))
        assert made.outbox.has_ring
        assert made.received(2) == byes(1, 2)
        # A later hello leaves a ring alone that is good.
        made.outbox.send(Hello(7, "app"))
        assert made.outbox.has_ring
        assert made.received(1) == [Hello(7, "app")]


def test_counters_of_a_worker_go_by_zeromq_and_try_no_ring(tmp_path: Path) -> None:
    report = WorkerReport(3, 0, 1, 1, (), 0, ())
    with ends(tmp_path) as made:
        made.inbox.close()
        made.outbox.send(report)
        made.inbox = rings.listen(tmp_path, SCHEDULER)
        made.outbox.send(bye(1))
        assert made.outbox.has_ring
        assert made.outbox._given is not None
        written = made.outbox._given.writer.position
        found: list[object] = []
        while bye(1) not in found or report not in found:
            # All may be lost that were sent before ZeroMQ has heard that the inbox which was there is gone.
            made.outbox.send(report)
            found += made.inbox.receive(20)
        assert made.outbox._given.writer.position == written


def test_what_a_full_ring_has_no_room_for_waits_and_goes_on_when_there_is(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        count = 10 * handover.CAPACITY // 16
        for number in range(count):
            assert made.outbox.send(bye(1000 + number))
        assert made.received(count) == byes(*range(1000, 1000 + count))
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        assert made.outbox.has_ring


def test_a_message_may_be_larger_than_the_ring(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        large = StageBroken(1, "x" * (5 * handover.CAPACITY))
        made.outbox.send(large)
        made.outbox.send(bye(1))
        assert made.received(2) == [large, bye(1)]


def test_what_lies_in_a_ring_that_was_not_taken_goes_by_zeromq_and_nothing_is_lost(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        for number in range(9000):
            made.outbox.send(bye(number))
        # It has never looked at the ring.
        made.replace_inbox()
        assert made.received(9000) == byes(*range(9000))
        assert not made.outbox.has_ring


def test_after_a_ring_has_broken_zeromq_carries_what_is_sent_until_the_next_hello(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        made.replace_inbox()
        while made.outbox.has_ring:
            made.go_on()
        made.outbox.send(bye(2))
        assert made.received(1) == byes(2)
        assert not made.outbox.has_ring
        made.outbox.send(Hello(7, "app"))
        made.outbox.send(bye(3))
        assert made.outbox.has_ring
        assert sorted(map(str, made.received(2))) == sorted(map(str, [Hello(7, "app"), bye(3)]))


def test_a_hello_sees_by_itself_that_the_ring_has_broken(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        made.replace_inbox()
        made.outbox.send(Hello(7, "app"))
        assert not made.outbox.has_ring
        assert made.received(1) == [Hello(7, "app")]


def test_a_receiver_without_rings_gets_everything_by_zeromq(tmp_path: Path) -> None:
    inbox, own = zeromq.listen(tmp_path, SCHEDULER), rings.listen(tmp_path, WORKER)
    outbox = rings.connect(tmp_path, SCHEDULER, own)
    found: list[Any] = []
    for number in range(5):
        outbox.send(bye(number))
    while len(found) < 5:
        found += inbox.receive(100)
    assert found == byes(*range(5))
    assert not outbox.has_ring
    for end in (outbox, inbox, own):
        end.close()


@pytest.mark.parametrize("what", ["memory", "bell"])
def test_a_process_without_memory_or_descriptors_for_a_ring_uses_zeromq(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*args: object) -> int:
        raise OSError(24, "Too many open files")

    with ends(tmp_path) as made:
        monkeypatch.setattr(*((os, "posix_fallocate") if what == "memory" else (os, "eventfd")), none)
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        assert not made.outbox.has_ring
        # A dead end holds no descriptor either.
        assert not [name for name in targets() if "trtlab-ring" in name]


def test_what_waits_when_an_outbox_is_closed_goes_by_zeromq_behind_what_lies_in_the_ring(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        large = [StageBroken(number, "x" * 30_000) for number in range(9)]
        for message in large:
            made.outbox.send(message)
        made.outbox.close(linger_ms=10_000)
        assert made.outbox.closed
        found: list[object] = []
        while len(found) < 9:
            found += made.inbox.receive(100)
        assert found == large


def test_without_an_inbox_that_would_tell_of_room_a_full_ring_is_given_up(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        made.own.close()
        large = [StageBroken(number, "x" * 30_000) for number in range(9)]
        for message in large:
            made.outbox.send(message)
        assert not made.outbox.has_ring
        found: list[object] = []
        while len(found) < 9:
            found += made.inbox.receive(100)
        assert found == large


def test_a_process_of_another_user_is_woken_by_packets_and_asked_for_room_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover.Peer, "is_trusted", False)
    monkeypatch.setattr(os, "eventfd", None)  # is not made
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        # So many that the connection has no room for the question either.
        count = handover.CAPACITY // 8
        for number in range(count):
            made.outbox.send(bye(1000 + number))
        assert made.received(count) == byes(*range(1000, 1000 + count))
        assert made.outbox.has_ring


def test_a_reader_that_writes_nonsense_into_its_word_loses_its_ring_and_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[memoryview] = []
    map_received = sealed.map_received

    def kept(fd: int, size: int) -> memoryview:
        mapped.append(map_received(fd, size))
        return mapped[-1]

    monkeypatch.setattr(sealed, "map_received", kept)
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        mapped[0][128:136] = b"\xff" * 8
        assert made.outbox.send(bye(2))
        assert not made.outbox.has_ring
        (message,) = made.received(1)
        assert message == bye(2) or isinstance(message, WireError)


def test_a_send_that_was_interrupted_may_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    def interrupted(*args: object) -> None:
        raise Interrupted

    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        for where in ((os, "eventfd_write"), (made.outbox._given.writer, "write")):  # type: ignore[union-attr]
            with monkeypatch.context() as patched:
                patched.setattr(*where, interrupted)
                with pytest.raises(Interrupted):
                    made.outbox.send(bye(2))
            made.outbox.send(bye(2))
        # Both went twice, or once.
        made.outbox.send(bye(3))
        found: list[object] = []
        while bye(3) not in found:
            found += made.received(1)
        assert found == byes(1, 2, 2, 2, 2, 3)


def test_a_client_is_reached_by_a_ring_and_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    client = Address.client(0x1F)
    theirs, own = rings.listen(tmp_path, client, signalled=True), rings.listen(tmp_path, SCHEDULER)
    outbox = rings.connect(tmp_path, client, own)
    outbox.send(bye(1))
    assert outbox.has_ring
    assert theirs.receive(5000) == byes(1)
    with pytest.raises(StartError, match="unix sockets allow 107"):
        rings.connect(tmp_path / ("x" * 120), SCHEDULER, own)
    for end in (outbox, theirs, own):
        end.close()


def test_nothing_is_left_of_a_ring_when_both_ends_are_closed(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        made.received(1)
        assert [name for name in targets() if "trtlab-ring" in name]
        bell = made.outbox._given.bell  # type: ignore[union-attr]
        connection = made.outbox._connection
    assert not [name for name in targets() if "trtlab-ring" in name]
    assert connection is not None
    assert connection.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.eventfd_write(bell, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_bell_is_rung_for_a_reader_that_sleeps_and_not_for_one_that_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = []
    ring = os.eventfd_write
    monkeypatch.setattr(os, "eventfd_write", lambda bell, value: rung.append(bell) or ring(bell, value))  # type: ignore[func-returns-value]
    with ends(tmp_path, polled=True) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        assert len(rung) == 1
        made.outbox.send(bye(1))
        made.outbox.send(bye(2))
        assert len(rung) == 1
        assert made.inbox.receive(5000) == byes(1, 2)
        # It waits for a while, in vain.
        while made.inbox.receive(1):
            pass
        made.outbox.send(bye(3))
        assert len(rung) == 2
        assert made.inbox.receive(5000) == byes(3)
