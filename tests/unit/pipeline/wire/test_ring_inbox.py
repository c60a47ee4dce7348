"""The receiving end of rings: all rings and ZeroMQ as one inbox, whatever its peers do."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from pathlib import Path

import pytest

from pipeline.errors import StartError, WireError
from pipeline.wire import handover, ring_inbox, rings, zeromq
from pipeline.wire.address import SCHEDULER
from pipeline.wire.codec import encode
from pipeline.wire.messages import Hello, Orders
from pipeline.wire.ring_inbox import RingInbox
from shm import sealed
from shm.ring import HEADER_BYTES, framed
from tests.unit.pipeline.wire.ring_ends import WORKER, bye, byes, descriptors, ends, targets

SIZE = HEADER_BYTES + handover.CAPACITY
GREETING = b"trtlab ring 1"


def until_turned_away(inbox: RingInbox, hostile: socket.socket) -> None:
    """Until it is told that the connection has ended; nothing else is said to it."""
    hostile.setblocking(False)
    while (said := handover.heard(hostile)) is None:
        inbox.receive(1)
    assert said == b""


def test_what_a_process_sends_by_zeromq_comes_after_what_lay_in_its_ring(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        push = zeromq.connect(tmp_path, SCHEDULER)
        # The first bell, which rang before the ring was looked at for the first time.
        assert made.inbox.receive(50) == []
        # As if the bell were heard later.
        made.outbox._given.writer.write(framed(encode(bye(1))))  # type: ignore[union-attr]
        push.send(bye(2))
        assert made.inbox.receive(5000) == byes(1, 2)
        for number in range(20):
            made.outbox.send(bye(2 * number))
            push.send(bye(2 * number + 1))
            found: list[object] = []
            while len(found) < 2:
                found += made.inbox.receive(5000)
            assert found == byes(2 * number, 2 * number + 1)
        push.close()


def test_it_waits_as_long_as_it_is_told_and_no_longer_than_a_message_takes(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        began = time.monotonic()
        assert made.inbox.receive(50) == []
        assert time.monotonic() - began >= 0.05
        assert not made.inbox.waiting
        made.outbox.send(bye(1))
        while not made.inbox.waiting:
            pass
        assert select.select([made.inbox.descriptor], [], [], 0)[0] or made.inbox.receive() == byes(1)


def test_its_descriptor_has_input_for_a_ring_for_zeromq_and_for_room(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        push = zeromq.connect(tmp_path, SCHEDULER)
        for outbox in (made.outbox, push, made.outbox):
            while made.inbox.receive() or made.inbox.waiting:
                pass
            outbox.send(bye(1))
            assert select.select([made.inbox.descriptor], [], [], 60)[0]
            assert made.received(1) == byes(1)
        push.close()


def test_the_supervisors_kind_of_wait_sees_messages_and_descriptors(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with ends(tmp_path) as made:
        assert made.inbox.wait([reading], 10) == set()
        os.write(writing, b"x")
        assert made.inbox.wait([reading], 60_000) == {reading}
        os.read(reading, 1)
        made.outbox.send(bye(1))
        assert made.inbox.wait([reading], 60_000) == set()
        assert made.received(1) == byes(1)
    os.close(reading)
    os.close(writing)


def test_what_a_dead_writer_had_put_into_its_ring_is_read_and_then_the_ring_goes(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        for number in range(2000):
            made.outbox.send(bye(number))
        # As the kernel does it for a dead one.
        made.outbox._let_go()
        found: list[object] = []
        while len(found) < 2000:
            found += made.inbox.receive(100)
        assert found == byes(*range(2000))
        while made.inbox._incoming:
            made.inbox.receive(10)
        assert not [name for name in targets() if "trtlab-ring" in name]


def test_a_flood_of_one_does_not_keep_the_others_from_being_heard(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        other = rings.connect(tmp_path, SCHEDULER, made.own)
        for number in range(5000):
            made.outbox.send(bye(number))
        other.send(bye(9999))
        while not (found := made.inbox.receive(5000)):
            pass
        found += made.inbox.receive()
        assert bye(9999) in found
        assert len(found) <= 2 * 512 + 1
        assert len(made.received(5001 - len(found))) == 5001 - len(found)
        other.close()


def test_a_bad_frame_comes_as_its_error_and_the_next_one_is_read(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        writer = made.outbox._given.writer  # type: ignore[union-attr]
        writer.write(framed(b"nonsense"))
        made.outbox.send(bye(2))
        first, error, last = made.received(3)
        assert (first, last) == (bye(1), bye(2))
        assert isinstance(error, WireError)


def test_a_writer_that_writes_nonsense_into_its_word_is_refused_and_others_are_heard(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        hostile = made.connected()
        fd = sealed.create("hostile", SIZE)
        memory = sealed.map_sealed(fd, SIZE)
        socket.send_fds(hostile, [GREETING], [fd])
        memory[0:8] = struct.pack("Q", 1 << 40)
        made.outbox.send(bye(1))
        found = made.received(2)
        (error,) = [message for message in found if isinstance(message, WireError)]
        assert "a ring of localhost:" in str(error)
        assert "is refused: the writer of a ring" in str(error)
        assert bye(1) in found
        while hostile.recv(64) == handover.TAKEN:
            pass
        hostile.close()
        os.close(fd)


def _unsealed() -> list[int]:
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    return [fd]


def _shrinking() -> list[int]:
    (fd,) = _unsealed()
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return [fd]


@pytest.mark.parametrize(
    ("said", "make"),
    [
        (b"", list),
        (b"GET / HTTP/1.1", list),
        (GREETING, list),
        (GREETING, _unsealed),
        (GREETING, _shrinking),
        (GREETING, lambda: [sealed.create("small", 4096)]),
        (GREETING, lambda: [os.open(os.devnull, os.O_RDWR)]),
        (GREETING, lambda: [sealed.create("r", SIZE), os.eventfd(0)]),
        (GREETING + b" and its bell", lambda: [sealed.create("r", SIZE)]),
        (GREETING + b" and its bell", lambda: [sealed.create("r", SIZE), os.open("/etc/passwd", os.O_RDONLY)]),
        (GREETING, lambda: [sealed.create("r", SIZE)] + [os.open(os.devnull, os.O_RDWR) for _ in range(9)]),
    ],
)  # fmt: skip
def test_a_peer_that_gives_no_ring_is_turned_away_and_costs_nothing(said: bytes, make: object, tmp_path: Path) -> None:
    assert callable(make)
    with ends(tmp_path) as made:
        # Both ways are there.
        made.outbox.send(Hello(7, "app"))
        made.outbox.send(bye(0))
        made.received(2)
        before = descriptors()
        hostile, fds = made.connected(), make()
        socket.send_fds(hostile, [said], fds)
        for fd in fds:
            os.close(fd)
        until_turned_away(made.inbox, hostile)
        hostile.close()
        assert descriptors() == before
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)


def test_a_bell_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ends(tmp_path) as made:
        hostile, fds = made.connected(), [sealed.create("r", SIZE), os.eventfd(0)]
        monkeypatch.setattr(handover.Peer, "is_trusted", False)
        socket.send_fds(hostile, [GREETING + b" and its bell"], fds)
        until_turned_away(made.inbox, hostile)
        for fd in (hostile.detach(), *fds):
            os.close(fd)


def test_what_another_user_may_not_say_is_refused_over_a_ring_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clients").mkdir()
    tmp_path.chmod(0o710)
    monkeypatch.setattr(ring_inbox, "peer_of", lambda connection: handover.Peer(1, 4711, 4711))
    with ends(tmp_path) as made:
        made.outbox.send(Orders(1, ()))
        made.outbox.send(bye(1))
        orders, goodbye = made.received(2)
        assert str(orders).startswith("a Orders from user 4711: only processes of the run's own user may send it")
        assert str(goodbye).startswith("a Bye from user 4711 in the name of client 1, which is not")


def test_without_a_descriptor_for_a_connection_its_writer_uses_zeromq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ends(tmp_path) as made:
        listening = made.inbox._listening[SCHEDULER]
        accept, tried = listening.socket.accept, []

        class Full:
            def accept(self) -> tuple[socket.socket, str]:
                tried.append(made.inbox._spare)
                if len(tried) == 1:
                    raise OSError(24, "Too many open files")
                return accept()

        made.outbox.send(bye(1))
        monkeypatch.setattr(listening, "socket", Full())
        assert made.received(1) == byes(1)
        assert not made.outbox.has_ring
        assert tried[0] >= 0
        assert tried[1] == -1
        assert made.inbox._spare >= 0
        monkeypatch.undo()


def test_an_interrupted_call_is_made_good_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        for asked in (False, True):
            poll = made.inbox._poll

            class Torn:
                """Tells what has come to one who is interrupted before he can note it."""

                def __init__(self, poll: select.epoll) -> None:
                    self.poll_ = poll

                def poll(self, *args: float) -> None:
                    while not self.poll_.poll(*args):
                        pass
                    raise Interrupted

            for number in range(1, 4000 if asked else 2):
                made.outbox.send(bye(number))
            monkeypatch.setattr(made.inbox, "_poll", Torn(poll))
            with pytest.raises(Interrupted):
                made.inbox.receive(1)
            monkeypatch.undo()
            count = 3999 if asked else 1
            assert made.received(count) == byes(*range(1, count + 1))


def test_a_question_for_room_that_was_heard_by_an_interrupted_call_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupted(connection: socket.socket) -> None:
        assert handover.heard(connection) == handover.ASK_ROOM
        raise Interrupted

    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        for number in range(9000):
            made.outbox.send(bye(number))
        monkeypatch.setattr(ring_inbox, "heard", interrupted)
        with pytest.raises(Interrupted):
            made.inbox.receive(5000)
        monkeypatch.undo()
        assert made.received(9000) == byes(*range(9000))


def test_a_ring_whose_handover_was_interrupted_goes_by_zeromq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    def interrupted(*args: object) -> None:
        raise Interrupted

    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        monkeypatch.setattr(ring_inbox, "receive", interrupted)
        with pytest.raises(Interrupted):
            made.received(1)
        monkeypatch.undo()
        assert made.received(1) == byes(1)
        assert not made.outbox.has_ring


def test_its_files_are_made_anew_and_who_is_connected_stays_so(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        assert made.inbox.renew() == []
        os.unlink(tmp_path / "scheduler.ring")
        assert made.inbox.renew() == ["scheduler.ring"]
        made.outbox.send(bye(2))
        other = rings.connect(tmp_path, SCHEDULER, made.own)
        other.send(bye(3))
        assert other.has_ring
        assert sorted(map(str, made.received(2))) == sorted(map(str, byes(2, 3)))
        other.close()


def test_its_socket_is_for_this_user_alone_and_one_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.bind(str(tmp_path / "scheduler.ring"))
    left.close()
    inbox = rings.listen(tmp_path, SCHEDULER)
    assert (tmp_path / "scheduler.ring").stat().st_mode & 0o777 == 0o600
    # Another one has taken the place: it is that one's to remove.
    os.unlink(tmp_path / "scheduler.ring")
    (tmp_path / "scheduler.ring").touch()
    inbox.close()
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler.ring"]


def test_an_address_that_cannot_be_bound_is_an_error_and_what_was_bound_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "scheduler.ring").mkdir()
    before = descriptors()
    with pytest.raises(StartError, match=r"cannot bind .*scheduler\.ring"):
        RingInbox(tmp_path, WORKER, SCHEDULER)
    assert descriptors() <= before + 8  # those of libzmq's threads
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler.ring"]


def test_the_child_of_a_fork_lets_go_and_disturbs_nothing(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(1))
        assert made.received(1) == byes(1)
        child = os.fork()
        if not child:
            gone = made.inbox.closed and made.inbox._poll.closed and not made.inbox._incoming
            os._exit(0 if gone and made.outbox._connection is None and not made.outbox.has_ring else 1)
        assert os.waitpid(child, 0)[1] == 0
        made.outbox.send(bye(2))
        assert made.received(1) == byes(2)


@pytest.mark.parametrize("spins", [False, True])
def test_what_comes_without_a_bell_is_here_for_every_question_to_a_polled_inbox(tmp_path: Path, spins: bool) -> None:
    with ends(tmp_path, polled=True, spins=spins) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        asked = (
            lambda: made.inbox.receive(),
            lambda: made.inbox.receive(600_000),
            lambda: made.inbox.waiting and made.inbox.receive(),
            lambda: made.inbox.wait((), 600_000) or made.inbox.receive(),
        )
        for number, ask in enumerate(asked):
            assert not made.outbox._given.writer.must_ring()  # type: ignore[union-attr]
            made.outbox.send(bye(number))
            assert ask() == byes(number)


def test_a_call_that_was_interrupted_does_not_make_the_next_one_wait(tmp_path: Path) -> None:
    with ends(tmp_path) as made:
        made.outbox.send(bye(0))
        assert made.received(1) == byes(0)
        while made.inbox.receive(1) or made.inbox.waiting:
            pass
        made.outbox.send(bye(1))
        # Its bell was heard by a call that did not come to its end.
        poll = made.inbox._poll
        assert poll.poll(60)
        made.inbox._torn = True
        waited: list[float] = []

        class Poll:
            def __getattr__(self, name: str) -> object:
                return getattr(poll, name)

            def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
                waited.append(timeout)
                return poll.poll(0, most)

        made.inbox._poll = Poll()  # type: ignore[assignment]
        assert made.inbox.receive(60_000) == byes(1)
        assert waited == [0.0]
