"""Handover: a ring and its bell go from one process to another over a connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pipeline.errors import WireError
from pipeline.wire import handover
from pipeline.wire.handover import Peer, give, heard, peer_of, receive, say
from shm.ring import framed

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def test_what_the_giver_writes_the_receiver_reads_and_the_bell_rings(pair: Pair) -> None:
    given = give(pair[0])
    reader, bell = receive(pair[1])
    given.writer.write(framed(b"a frame"))
    os.eventfd_write(given.bell, 1)
    assert os.eventfd_read(bell) == 1
    assert reader.take(1) == [b"a frame"]
    assert not os.get_inheritable(bell)
    for fd in (given.bell, bell):
        os.close(fd)


def test_a_process_of_another_user_gets_no_bell(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    given = give(pair[0])
    reader, bell = receive(pair[1])
    assert given.bell == bell == -1
    given.writer.write(framed(b"a frame"))
    assert reader.take(1) == [b"a frame"]


def test_before_the_first_packet_there_is_nothing_to_receive(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        receive(pair[1])


def test_a_packet_that_is_no_ring_is_an_error_that_shows_it(pair: Pair) -> None:
    pair[0].send(b"hello")
    with pytest.raises(WireError, match=r"expected a ring .*, found b'hello' and 0 descriptors"):
        receive(pair[1])


def test_a_ring_to_a_process_that_is_gone_leaves_no_descriptor(pair: Pair) -> None:
    pair[1].close()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="pipe"):
        give(pair[0])
    assert len(os.listdir("/proc/self/fd")) == before


def test_words_are_heard_one_by_one_and_the_end_as_nothing(pair: Pair) -> None:
    assert heard(pair[1]) is None
    assert say(pair[0], handover.ASK_ROOM)
    assert say(pair[0], handover.RUNG)
    assert [heard(pair[1]), heard(pair[1]), heard(pair[1])] == [handover.ASK_ROOM, handover.RUNG, None]
    pair[0].close()
    assert heard(pair[1]) == b""
    # It is not known yet, or told by `heard`: no error.
    assert say(pair[1], handover.ROOM)


def test_a_peer_that_reads_nothing_makes_no_word_wait(pair: Pair) -> None:
    said = 0
    while say(pair[0], handover.RUNG):
        said += 1
    assert said > 0


def test_a_connection_knows_who_is_at_its_other_end(pair: Pair) -> None:
    peer = peer_of(pair[0])
    assert peer == Peer(os.getpid(), os.geteuid(), os.getegid())
    assert peer.is_trusted
    assert str(peer) == f"localhost:{os.geteuid()}:{os.getegid()}:{os.getpid()}"
    assert not Peer(1, os.geteuid() + 1, 0).is_trusted
