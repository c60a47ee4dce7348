"""The scheduler's connections: opened with the first message or when it is said, and closed when it is said."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.processes.outboxes import Outboxes, limits_of
from pipeline.scheduler.door import SHELL, SUPERVISOR, Connect, Disconnect, Log, stranger
from pipeline.wire.address import Address
from pipeline.wire.links import MOST_SOCKETS, listen
from pipeline.wire.messages import Drained, Gone, Message, PeerGone
from pipeline.wire.status import PipelineStatus
from shm.owner import OwnerLock

SECOND = 1_000_000_000


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ["TRTLAB_RUN_DIR"]) as folder:
        (Path(folder) / "clients").mkdir()
        yield Path(folder)


@pytest.fixture
def outboxes(run_dir: Path) -> Iterator[Outboxes]:
    made = Outboxes(run_dir)
    yield made
    made.close()


class Peer:
    """A client, or a process that calls itself one."""

    def __init__(self, run_dir: Path, number: int) -> None:
        self.lock = OwnerLock.acquire(run_dir / "clients" / f"{number:x}.lock")
        self.inbox = listen(run_dir, Address.client(number))

    def received(self, timeout_ms: int = 5000) -> list[object]:
        return list(self.inbox.receive(timeout_ms))

    def close(self) -> None:
        self.inbox.close()
        self.lock.release()


@pytest.fixture
def peer(run_dir: Path) -> Iterator[Peer]:
    made = Peer(run_dir, 0xAB)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("receiver", "message"),
    [(SUPERVISOR, Drained(PipelineStatus("demo", 0, True, {}, 0, {}, {}, (), (), (), (), ()))), (Address.worker(3), PeerGone(1))],
    ids=["supervisor", "worker"],
)
def test_what_is_for_the_supervisor_or_a_worker_is_sent(
    run_dir: Path, outboxes: Outboxes, receiver: Address, message: Message
) -> None:
    inbox = listen(run_dir, receiver)
    assert outboxes.deliver([(receiver, message), (receiver, message)]) == []
    found = inbox.receive(5000)
    while len(found) < 2:
        found += inbox.receive(5000)
    inbox.close()
    assert found == [message, message]


def test_a_client_is_connected_when_it_is_said_and_sent_to_until_it_is_disconnected(
    outboxes: Outboxes, peer: Peer
) -> None:
    gone = (Address.client(0xAB), Gone(1))
    assert outboxes.deliver([gone, (SHELL, Connect(0xAB)), gone]) == []
    # What was decided before the connection cannot be sent.
    assert peer.received() == [Gone(1)]
    outboxes.deliver([(SHELL, Disconnect(Address.client(0xAB), 0)), gone])
    assert peer.received(200) == []
    assert outboxes.dead(SECOND) == []


def test_a_client_without_a_lock_is_reported_and_is_sent_nothing(outboxes: Outboxes, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.client(0xAB))
    assert outboxes.deliver([(SHELL, Connect(0xAB)), (Address.client(0xAB), Gone(1))]) == [0xAB]
    assert inbox.receive(200) == []
    inbox.close()


def test_a_client_that_is_connected_anew_keeps_its_watch_also_where_its_lock_file_is_gone(
    outboxes: Outboxes, peer: Peer, run_dir: Path
) -> None:
    outboxes.deliver([(SHELL, Connect(0xAB))])
    (run_dir / "clients" / "ab.lock").unlink()
    assert outboxes.deliver([(SHELL, Connect(0xAB)), (Address.client(0xAB), Gone(1))]) == []
    assert peer.received() == [Gone(1)]
    assert outboxes.dead(SECOND) == []
    peer.lock.release()
    assert outboxes.dead(2 * SECOND) == [0xAB]


def test_the_death_of_a_client_is_looked_for_now_and_then(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(SHELL, Connect(0xAB))])
    assert outboxes.dead(SECOND) == []
    peer.lock.release()
    assert outboxes.dead(SECOND + 249_000_000) == []
    assert outboxes.dead(SECOND + 250_000_000) == [0xAB]


def test_a_stranger_is_answered_once_if_it_lives(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(stranger(0xAB), Gone(4)), (stranger(0xCD), Gone(4))])
    assert peer.received() == [Gone(4)]
    peer.lock.release()
    outboxes.deliver([(stranger(0xAB), Gone(5))])
    assert peer.received(200) == []


def test_a_line_for_people_is_printed(outboxes: Outboxes, capsys: pytest.CaptureFixture[str]) -> None:
    outboxes.deliver([(SHELL, Log("a client waits"))])
    assert capsys.readouterr().err == "a client waits\n"


def test_there_are_descriptors_for_so_many_clients() -> None:
    # 16 of its own, 3 segments, 3 for each of 2 workers; a quarter is left; 4 a client.
    assert limits_of(1024, 2, 3).clients == (1024 - 16 - 3 - 6) * 3 // 4 // 4 == 187
    # One at least; and no more than there are sockets for.
    assert limits_of(30, 2, 3).clients == 1
    assert limits_of(1 << 20, 2, 3).clients == MOST_SOCKETS - 2 - 40
    assert [limits_of(files, 2, 3).strangers for files in (30, 256, 1 << 20)] == [2, 8, 32]
