from __future__ import annotations

import os
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.errors import StartError, WireError
from pipeline.wire.address import Address
from pipeline.wire.codec import MAX_FRAME_BYTES
from pipeline.wire.messages import Bye, Hello, Message, PeerGone
from pipeline.wire.zeromq import Pull, Push, endpoint_of, forget

W = [Address.worker(number) for number in range(3)]


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return endpoint_of(tmp_path, W[1])


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Pull]:
    made = Pull(tmp_path, W[1])
    yield made
    made.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Push]:
    made = Push(tmp_path, W[1])
    yield made
    made.close()


@pytest.fixture
def stranger(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A process that speaks ZeroMQ and not our messages."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    yield socket
    socket.close()


def receive(inbox: Pull, count: int) -> list[Message | WireError]:
    found: list[Message | WireError] = []
    while len(found) < count:
        found += inbox.receive(5000)
    return found


def test_messages_of_one_sender_come_in_order(inbox: Pull, outbox: Push) -> None:
    sent = [Hello(number, "client") for number in range(1200)]
    assert all(outbox.send(message) for message in sent)
    assert receive(inbox, 1200) == sent


def test_without_a_message_a_receive_ends_with_its_timeout(inbox: Pull) -> None:
    assert inbox.receive() == []
    assert inbox.receive(1) == []
    assert inbox.receive(2) == []


def test_messages_wait_for_an_inbox_that_is_bound_later(tmp_path: Path, outbox: Push) -> None:
    outbox.send(Bye(1, ()))
    late = Pull(tmp_path, W[1])
    assert receive(late, 1) == [Bye(1, ())]
    late.close()


def test_a_bad_frame_comes_as_its_error_and_the_next_message_after_it(
    inbox: Pull, stranger: zmq.Socket[bytes]
) -> None:
    stranger.send(b"junk")
    stranger.send_multipart([b"", b"parts"])
    stranger.send(bytes([0x94, 1, 24, 1, 2]))
    found = receive(inbox, 4)
    assert [type(message) for message in found] == [WireError] * 4


def test_a_frame_above_the_limit_never_arrives_and_harms_no_other(
    inbox: Pull, outbox: Push, stranger: zmq.Socket[bytes]
) -> None:
    stranger.send(bytes(MAX_FRAME_BYTES + 1))
    outbox.send(PeerGone(1))
    assert receive(inbox, 1) == [PeerGone(1)]
    assert inbox.receive(100) == []


def test_the_socket_is_for_this_user_alone_and_goes_with_its_inbox(tmp_path: Path, endpoint: str) -> None:
    inbox = Pull(tmp_path, W[1])
    path = endpoint.removeprefix("ipc://")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    inbox.close()
    assert not os.path.lexists(path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot bind ipc://"):
        Pull(tmp_path / "nothing", W[1])


def test_a_wait_tells_descriptors_and_ends_for_messages(inbox: Pull, outbox: Push) -> None:
    read, write = os.pipe()
    assert inbox.wait([read], 0) == set()
    outbox.send(Bye(1, ()))
    assert inbox.wait([read], 5000) == set()
    assert inbox.receive(5000) == [Bye(1, ())]
    os.write(write, b"x")
    assert inbox.wait([read], 5000) == {read}
    assert inbox.wait([], -1) == set()
    os.close(read)
    os.close(write)


def test_what_a_killed_process_has_left_of_its_inbox_is_forgotten_and_only_that(tmp_path: Path) -> None:
    for name in ("w1.sock", "w2.sock"):
        (tmp_path / name).touch()
    for _ in range(2):
        forget(tmp_path, W[1])
        assert [path.name for path in tmp_path.iterdir()] == ["w2.sock"]


def test_an_inbox_may_have_several_addresses_and_all_of_them_go_with_it(tmp_path: Path) -> None:
    made = Pull(tmp_path, *W)
    senders = [Push(tmp_path, address) for address in W]
    try:
        for number, sender in enumerate(senders):
            sender.send(PeerGone(number))
        assert sorted(receive(made, 3), key=repr) == [PeerGone(0), PeerGone(1), PeerGone(2)]
        assert {path.name for path in tmp_path.iterdir()} == {"w0.sock", "w1.sock", "w2.sock"}
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    finally:
        for sender in senders:
            sender.close()
        made.close()
    assert list(tmp_path.iterdir()) == []


def test_an_inbox_that_gets_only_some_of_its_addresses_gives_them_back(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot bind"):
        Pull(tmp_path, W[0], Address.client(1))
    assert list(tmp_path.iterdir()) == []


def test_an_inbox_whose_file_was_removed_is_found_again_and_loses_no_connection(
    inbox: Pull, outbox: Push, tmp_path: Path, endpoint: str
) -> None:
    outbox.send(Bye(1, ()))
    assert receive(inbox, 1) == [Bye(1, ())]
    path = Path(endpoint.removeprefix("ipc://"))
    assert inbox.renew() == []
    path.unlink()
    late = Push(tmp_path, W[1])  # waits for the inbox
    late.send(Bye(2, ()))
    assert inbox.renew() == ["w1.sock"]
    assert inbox.renew() == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    outbox.send(Bye(3, ()))
    assert sorted(receive(inbox, 2), key=str) == [Bye(2, ()), Bye(3, ())]
    late.close()


def test_an_inbox_without_a_folder_waits_for_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    inbox = Pull(folder, Address("a"), Address("b"))
    shutil.rmtree(folder)
    assert inbox.renew() == []
    folder.mkdir()
    assert inbox.renew() == ["a.sock", "b.sock"]
    shutil.rmtree(folder)
    inbox.close()


def test_signals_do_not_prolong_the_wait_of_an_applications_inbox(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    inbox = Pull(tmp_path, W[0], signalled=True)
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        assert inbox.receive(200) == []
        outbox = Push(tmp_path, W[0])
        outbox.send(Bye(1, ()))
        assert inbox.receive(20_000) == [Bye(1, ())]
        outbox.close()
    finally:
        stop.set()
        thread.join()
        inbox.close()
        signal.signal(signal.SIGUSR1, before)
