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
from tests.entries import lines_of

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
    [(SUPERVISOR, Drained(PipelineStatus("demo", 0, True, {}, 0, {}, {}, (), (), (), (), (), 10.0))), (Address.worker(3), PeerGone(1))],
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
    assert outboxes.dead(2 * SECOND) == []
    assert outboxes.dead(3 * SECOND) == [0xAB]


def test_the_death_of_a_client_is_looked_for_now_and_then(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(SHELL, Connect(0xAB))])
    assert outboxes.dead(SECOND) == []
    peer.lock.release()
    assert outboxes.dead(SECOND + 250_000_000) == []
    assert outboxes.dead(SECOND + 499_000_000) == []
    assert outboxes.dead(SECOND + 500_000_000) == [0xAB]


def test_a_client_whose_goodbye_comes_after_its_lock_was_seen_free_has_not_died(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(SHELL, Connect(0xAB))])
    peer.lock.release()
    assert outboxes.dead(SECOND) == []
    # The scheduler has read the goodbye meanwhile.
    outboxes.deliver([(SHELL, Disconnect(Address.client(0xAB), 0))])
    assert outboxes.dead(2 * SECOND) == []


def test_a_stranger_is_answered_once_if_it_lives(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(stranger(0xAB), Gone(4)), (stranger(0xCD), Gone(4))])
    assert peer.received() == [Gone(4)]
    peer.lock.release()
    outboxes.deliver([(stranger(0xAB), Gone(5))])
    assert peer.received(200) == []


def test_what_a_stranger_is_sent_comes_in_its_order(outboxes: Outboxes, peer: Peer) -> None:
    outboxes.deliver([(stranger(0xAB), Gone(number)) for number in range(100)])
    found: list[object] = []
    while len(found) < 100:
        found += peer.received()
    assert found == [Gone(number) for number in range(100)]


def test_a_line_for_people_is_printed(outboxes: Outboxes, capsys: pytest.CaptureFixture[str]) -> None:
    outboxes.deliver([(SHELL, Log("a client waits"))])
    assert lines_of(capsys.readouterr().err) == ["warning: a client waits"]


def test_there_are_descriptors_for_so_many_clients() -> None:
    # 16 of its own, 3 segments, 3 for each of 2 workers; a quarter is left; 4 a client.
    assert limits_of(1024, 2, 3).clients == (1024 - 16 - 3 - 6) * 3 // 4 // 4 == 187
    # In a run with a group, the file of its socket too.
    assert limits_of(1024, 2, 3, ring=True).clients == (1024 - 16 - 3 - 18) * 3 // 4 // 10 == 74
    assert limits_of(1024, 2, 3, group=True).clients == (1024 - 16 - 3 - 6) * 3 // 4 // 5 == 149
    # One at least; and no more than there are sockets for.
    assert limits_of(30, 2, 3).clients == 1
    assert limits_of(1 << 20, 2, 3).clients == MOST_SOCKETS - 2 - 40
    assert [limits_of(files, 2, 3).strangers for files in (30, 256, 1 << 20)] == [2, 8, 32]


def test_what_a_dead_client_has_left_is_removed(outboxes: Outboxes, run_dir: Path) -> None:
    dead, alive = Peer(run_dir, 0xDE), Peer(run_dir, 0xA1)
    outboxes.deliver([(SHELL, Connect(0xDE)), (SHELL, Connect(0xA1))])
    kill(dead)
    assert outboxes.dead(SECOND) == []
    assert outboxes.dead(2 * SECOND) == [0xDE]
    for number in (0xDE, 0xA1):
        outboxes.deliver([(SHELL, Disconnect(Address.client(number), 0))])
    assert sorted(path.name for path in (run_dir / "clients").iterdir()) == ["a1.lock", "a1.sock"]
    dead.inbox.close()
    alive.close()


def test_what_died_before_it_was_let_in_is_swept_up_and_nothing_else(outboxes: Outboxes, run_dir: Path, peer: Peer) -> None:
    dead = Peer(run_dir, 0xDE)
    kill(dead)
    for name in ("starting.lock", "5.lock", "notes.txt"):
        (run_dir / "clients" / name).touch()
    outboxes.dead(10 * SECOND)
    assert sorted(path.name for path in (run_dir / "clients").iterdir()) == [
        "5.lock", "ab.lock", "ab.sock", "notes.txt", "starting.lock",
    ]  # fmt: skip
    dead.inbox.close()
    # And not at every step.
    dead = Peer(run_dir, 0xDF)
    kill(dead)
    outboxes.dead(11 * SECOND)
    assert (run_dir / "clients" / "df.lock").exists()
    outboxes.dead(16 * SECOND)
    assert not (run_dir / "clients" / "df.lock").exists()
    dead.inbox.close()


@pytest.mark.parametrize("name", ["0xab", "0ab", "AB", "a_b", " ab", "+ab"])
def test_a_dead_lock_whose_name_is_another_spelling_of_a_clients_number_costs_that_client_nothing(
    outboxes: Outboxes, run_dir: Path, peer: Peer, name: str
) -> None:
    (run_dir / "clients" / f"{name}.lock").write_text("pid 1 start 1\n")
    outboxes.dead(10 * SECOND)
    assert (run_dir / "clients" / "ab.lock").exists()
    assert (run_dir / "clients" / "ab.sock").exists()


def test_a_folder_with_any_number_of_files_is_swept_a_part_at_a_time_and_whole(outboxes: Outboxes, run_dir: Path) -> None:
    folder = run_dir / "clients"
    for number in range(200):
        (folder / f"{number:x}.lock").write_text("pid 1 start 1\n")
    left = []
    for turn in range(4):
        outboxes.dead(10 * SECOND + turn * SECOND // 4)
        left.append(len(list(folder.iterdir())))
    assert left == [200 - 64, 200 - 128, 200 - 192, 0]


def kill(peer: Peer) -> None:
    """As if its process was killed: the lock is free, and all files are there."""
    os.close(peer.lock._fd)
    peer.lock._fd = -1
