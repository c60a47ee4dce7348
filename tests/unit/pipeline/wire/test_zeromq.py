"""The link over ZeroMQ: sockets in the folder of a run, and whose they are."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pipeline.errors import StartError, WireError
from pipeline.wire import zeromq
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.codec import MAX_FRAME_BYTES, encode
from pipeline.wire.messages import Bye, Gone, Hello, Message, PeerGone, Stop
from pipeline.wire.zeromq import Pull, Push, endpoint_of, forget
from shm.owner import OwnerLock

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


class Counting:
    """A socket that counts what is asked of it: each question is two system calls of libzmq's, or more."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self.questions = self.refusals = 0

    def getsockopt(self, option: int) -> Any:
        self.questions += 1
        return self._socket.getsockopt(option)

    def recv(self, *arguments: Any, **more: Any) -> Any:
        try:
            return self._socket.recv(*arguments, **more)
        except zmq.Again:
            self.refusals += 1
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@pytest.mark.parametrize("signalled", [False, True])
def test_a_message_that_is_waited_for_costs_few_questions_and_a_look_at_an_empty_inbox_none(
    tmp_path: Path, outbox: Push, signalled: bool
) -> None:
    inbox = Pull(tmp_path, W[1], signalled=signalled)
    outbox.send(PeerGone(0))
    assert receive(inbox, 1) == [PeerGone(0)]
    assert inbox.receive() == []
    counting = inbox._socket = Counting(inbox._socket)  # type: ignore[assignment]
    for _ in range(5):
        assert inbox.receive() == []
    assert (counting.questions, counting.refusals) == (0, 0)
    sender = threading.Timer(0.1, outbox.send, [PeerGone(1)])
    sender.start()
    assert receive(inbox, 1) == [PeerGone(1)]
    sender.join()
    # Whether there is more; and in an application's process, whether the change was a message. (A connection that is
    # made meanwhile may be one more change.)
    assert counting.questions <= 1 + 2 * signalled
    assert counting.refusals == 0
    inbox.close()


def test_a_message_is_there_though_a_signal_ended_the_question_for_it(
    inbox: Pull, outbox: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    class Asked:
        """The question is asked, and its answer does not arrive."""

        def getsockopt(self, option: int) -> int:
            real.getsockopt(option)
            raise Cut

    assert inbox.receive() == []  # from here on the descriptor is looked at first
    outbox.send(Stop())
    real = inbox._socket
    assert inbox._poll.poll(5000)
    monkeypatch.setattr(inbox, "_socket", Asked())
    with pytest.raises(Cut):
        inbox.receive()
    monkeypatch.setattr(inbox, "_socket", real)
    # Looked for again, without a new word from the socket. What had come first may have been its greeting.
    assert receive(inbox, 1) == [Stop()]


def test_a_flood_costs_no_question_a_message(inbox: Pull, outbox: Push) -> None:
    sent = [PeerGone(number) for number in range(400)]
    for message in sent:
        outbox.send(message)
    # All of them are here before the first is taken.
    time.sleep(0.5)
    counting = inbox._socket = Counting(inbox._socket)  # type: ignore[assignment]
    assert receive(inbox, 400) == sent
    assert counting.questions + counting.refusals <= 20


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


# -- runs with a group ------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """The folder of a run that is open to the group of this process."""
    (tmp_path / "clients").mkdir()
    tmp_path.chmod(0o710)
    return tmp_path


@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_group_reaches_the_scheduler_and_clients_and_no_other_process(opened: Path, umask: int) -> None:
    addresses = (SCHEDULER, Address.client(5), SUPERVISOR, W[1])
    before = os.umask(umask)
    try:
        inbox = Pull(opened, *addresses)
        for address in addresses:
            (opened / f"{address.file}.sock").unlink()
        assert len(inbox.renew()) == 4
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((opened / f"{address.file}.sock").stat().st_mode) for address in addresses]
    assert modes == [0o660, 0o660, 0o600, 0o600]
    inbox.close()


def test_no_other_user_connects_before_the_permissions_of_a_socket_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr("pipeline.wire.zeromq.open_to", lambda group, path, mode: modes.append(os.stat(path).st_mode & 0o777))
    before = os.umask(0)
    try:
        Pull(tmp_path, SUPERVISOR, W[1]).close()
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


def test_the_schedulers_inbox_asks_the_kernel_who_sends_if_the_run_has_a_group(
    opened: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)  # the run's own user, who this process is not
    with OwnerLock.acquire(opened / "clients" / "5.lock"):
        scheduler, worker = Pull(opened, SCHEDULER), Pull(opened, W[1])
        for inbox, address in ((scheduler, SCHEDULER), (worker, W[1])):
            outbox = Push(opened, address)
            for message in (Stop(), Hello(5, "a client"), Hello(6, "no client")):
                outbox.send(message)
            found = receive(inbox, 3)
            if inbox is worker:
                # No other user can connect to it at all.
                assert found == [Stop(), Hello(5, "a client"), Hello(6, "no client")]
            else:
                assert f"a Stop from user {os.getuid()}: only processes of the run's own user" in str(found[0])
                assert found[1] == Hello(5, "a client")
                assert "in the name of client 6" in str(found[2])
            outbox.close()
            inbox.close()


def test_a_flood_waits_with_its_sender(opened: Path) -> None:
    inbox, outbox = Pull(opened, SCHEDULER), Push(opened, SCHEDULER)
    for number in range(3000):
        outbox.send(Hello(number, "x" * 1000))
    assert receive(inbox, 3000) == [Hello(number, "x" * 1000) for number in range(3000)]
    assert inbox._socket.get(zmq.RCVHWM) == 64
    outbox.close()
    inbox.close()


# -- a run with a group ------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run that a group can enter."""
    (tmp_path / "clients").mkdir()
    tmp_path.chmod(0o710)
    yield tmp_path
    while zeromq._unneeded:
        os.close(zeromq._unneeded.popleft()[1])


def test_a_client_takes_no_message_from_a_user_that_is_not_the_pipelines(shared: Path) -> None:
    client = Address.client(7)
    for owner, taken in ((os.geteuid(), True), (61001, False)):
        if owner != os.geteuid():
            if os.geteuid() != 0:
                pytest.skip("only root can make a folder of another user")
            os.chown(shared, owner, -1)
        inbox = Pull(shared, client)
        sender = zmq.Context.instance().socket(zmq.PUSH)
        try:
            sender.connect(f"ipc://{shared}/clients/7.sock")
            sender.send(encode(Gone(9, "it is said")))
            (found,) = receive(inbox, 1)
            assert (found == Gone(9, "it is said")) is taken
            assert isinstance(found, WireError) is not taken
        finally:
            sender.close(0)
            inbox.close()


def locked(folder: Path, number: int, user: int | None = None) -> None:
    path = folder / "clients" / f"{number:x}.lock"
    path.touch()
    if user is not None:
        os.chown(path, user, -1)


@pytest.mark.parametrize("what", ["a link", "no lock", "a file", "nothing", "of another user"])
def test_the_scheduler_connects_to_a_clients_own_socket_alone(shared: Path, what: str) -> None:
    victim, attacker = Address.client(7), Address.client(8)
    inbox = Pull(shared, victim)
    locked(shared, 7)
    own = shared / "clients" / "8.sock"
    if what == "a link":
        own.symlink_to("7.sock")
        locked(shared, 8)
    elif what == "no lock":
        own.symlink_to("7.sock")
    elif what == "a file":
        own.touch()
        locked(shared, 8)
    elif what == "nothing":
        locked(shared, 8)
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can make a lock of another user")
        # As if the kernel allowed hard links to sockets of others.
        os.link(shared / "clients" / "7.sock", own)
        locked(shared, 8, 61002)
    outbox = Push(shared, attacker)
    try:
        assert not outbox.send(Gone(9, "for another one"))
        assert inbox.receive(100) == []
    finally:
        outbox.close()
    outbox = Push(shared, victim)
    try:
        assert outbox.send(Gone(9, "for this one"))
        assert receive(inbox, 1) == [Gone(9, "for this one")]
    finally:
        outbox.close()
        inbox.close()


def test_a_connection_to_a_client_stays_with_the_socket_that_it_was_made_to(shared: Path) -> None:
    inbox, other = Pull(shared, Address.client(8)), Pull(shared, Address.client(7))
    locked(shared, 8)
    outbox = Push(shared, Address.client(8))
    try:
        outbox.send(Gone(1, ""))
        assert receive(inbox, 1) == [Gone(1, "")]
        # The client lets libzmq connect once more, to another one's socket.
        inbox.close()
        (shared / "clients" / "8.sock").symlink_to("7.sock")
        for _ in range(5):
            outbox.send(Gone(2, ""))
            assert other.receive(100) == []
    finally:
        outbox.close()
        other.close()


def test_the_file_of_a_socket_that_was_connected_to_is_held_until_libzmq_has_surely_let_go_of_it(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Pull(shared, Address.client(8))
    locked(shared, 8)
    outbox = Push(shared, Address.client(8))
    held = outbox._fd
    now = time.monotonic()
    outbox.close(linger_ms=500)
    assert os.path.samestat(os.fstat(held), os.stat(shared / "clients" / "8.sock"))
    for later, there in ((1.4, True), (3.0, False)):
        monkeypatch.setattr(zeromq.time, "monotonic", lambda: now + later)  # noqa: B023
        zeromq._close_unneeded()
        assert os.path.exists(f"/proc/self/fd/{held}") is there
    inbox.close()
