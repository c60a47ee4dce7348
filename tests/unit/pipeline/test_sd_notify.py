"""The datagrams of sd_notify, over real sockets: by a path, and by an abstract name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StartError
from pipeline.sd_notify import NotifySocket


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(30)
        yield made


def test_without_a_service_manager_there_is_none() -> None:
    assert NotifySocket.take({"HOME": "/root"}) is None


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_what_is_sent_comes_as_one_datagram_each(receiver: socket.socket, tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@trtlab-{os.getpid()}-notify"
    receiver.bind(address.replace("@", "\0", 1))
    notify = NotifySocket.take({"NOTIFY_SOCKET": address})
    assert notify is not None
    notify.send("READY=1\nSTATUS=serving")
    notify.send("WATCHDOG=1")
    assert [receiver.recv(100), receiver.recv(100)] == [b"READY=1\nSTATUS=serving", b"WATCHDOG=1"]
    notify.close()


def test_the_variables_are_taken_away_so_that_no_child_has_them() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    notify = NotifySocket.take(environ)
    assert notify is not None
    assert (environ, notify.watchdog_s) == ({"A": "b"}, 1.5)
    notify.close()


def test_if_another_process_is_the_service_they_are_taken_away_too() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1500000"}
    assert NotifySocket.take(environ, own=False) is None
    assert environ == {}


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    notify = NotifySocket.take({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid() + 1)})
    assert notify is not None
    assert notify.watchdog_s is None
    notify.close()


@pytest.mark.parametrize("address", ["relative", "/", "@", "vsock:2:1234"])
def test_an_address_of_another_kind_is_an_error_that_says_what_was_expected(address: str) -> None:
    with pytest.raises(StartError, match=r"NOTIFY_SOCKET: expected the path of a socket, or @ .*, found '"):
        NotifySocket.take({"NOTIFY_SOCKET": address})


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_so_is_a_time_that_is_none(interval: str) -> None:
    with pytest.raises(StartError, match="WATCHDOG_USEC: expected microseconds above 0"):
        NotifySocket.take({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": interval})


def test_what_cannot_be_sent_waits_for_the_manager_to_come_back(receiver: socket.socket, tmp_path: Path) -> None:
    notify = NotifySocket(str(tmp_path / "notify"))
    notify.send("READY=1")
    notify.send("STATUS=serving")
    receiver.bind(str(tmp_path / "notify"))
    notify.flush()
    assert [receiver.recv(100), receiver.recv(100)] == [b"READY=1", b"STATUS=serving"]
    notify.close()


def test_a_manager_that_reads_nothing_neither_blocks_nor_lets_memory_grow(receiver: socket.socket, tmp_path: Path) -> None:
    receiver.bind(str(tmp_path / "notify"))
    receiver.settimeout(0.5)
    notify = NotifySocket(str(tmp_path / "notify"))
    for number in range(5000):
        notify.send(f"STATUS={number}")
    found: list[bytes] = []
    while not found or found[-1] != b"STATUS=4999":
        notify.flush()
        found.append(receiver.recv(100))
    assert len(found) < 5000
    notify.close()
