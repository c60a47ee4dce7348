"""What is said if a broker is not there, or is none. Real brokers: tests/foreign/test_mqtt.py, tests/faults/test_mqtt.py."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.graph.plan import MqttPlan
from pipeline.mqtt.connection import Connection, Lost, password_of
from pipeline.mqtt.topics import Publication


@pytest.fixture
def wake() -> Iterator[int]:
    made = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield made
    os.close(made)


def connect(mqtt: MqttPlan, wake: int, folder: Path = Path()) -> Connection:
    will = Publication("status", "offline")
    return Connection(mqtt, folder, {}, "trtlab-door", will, ["a"], lambda *_: None, lambda _: None, wake)


def test_a_password_comes_from_the_environment_or_the_first_line_of_a_file(tmp_path: Path) -> None:
    assert password_of(MqttPlan("b"), tmp_path, {}) is None
    assert password_of(MqttPlan("b", user="u", password="${P}"), tmp_path, {"P": "a${Q} b"}) == "a${Q} b"
    (tmp_path / "secret").write_text("first\nsecond\n")
    assert password_of(MqttPlan("b", user="u", password_file="secret"), tmp_path, {}) == "first"


def test_one_that_is_not_there_is_told_with_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(Lost, match=r"the environment variable P of mqtt\.password is not set"):
        password_of(MqttPlan("b", user="u", password="${P}"), tmp_path, {})
    with pytest.raises(Lost, match=r"mqtt\.password_file .*secret cannot be read: No such file"):
        password_of(MqttPlan("b", user="u", password_file="secret"), tmp_path, {})
    (tmp_path / "secret").write_bytes(b"\xff")
    with pytest.raises(Lost, match="it is not UTF-8"):
        password_of(MqttPlan("b", user="u", password_file="secret"), tmp_path, {})


def test_nothing_listens(wake: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Lost, match=rf"the broker 127\.0\.0\.1:{port} is not there: Connection refused"):
            connect(MqttPlan("127.0.0.1", port), wake)


def test_the_name_is_unknown(wake: int) -> None:
    with pytest.raises(Lost, match=r"the broker's name no\.such\.host\.invalid is unknown; check mqtt\.host"):
        connect(MqttPlan("no.such.host.invalid"), wake)


@pytest.mark.parametrize("host", ["broker..lan", ".", 70 * "b"])
def test_a_name_that_can_be_none_is_unknown_too(wake: int, host: str) -> None:
    with pytest.raises(Lost, match=r"is unknown; check mqtt\.host"):
        connect(MqttPlan(host), wake)


@contextmanager
def saying(said: bytes, *, hears: int = 1) -> Iterator[MqttPlan]:
    """What answers the first that it hears with these bytes, and closes the connection once it has heard so often."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(said)
                for _ in range(hears - 1):
                    caller.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield MqttPlan("127.0.0.1", server.getsockname()[1])
        thread.join()


def test_a_message_whose_topic_is_no_text_is_passed_over(wake: int) -> None:
    # It accepts us, and publishes an x on a topic of two bytes.
    with saying(b"\x20\x02\x00\x00" + b"\x30\x05\x00\x02\xff\xfex", hears=2) as plan:
        made = connect(plan, wake)
        with pytest.raises(Lost, match="has closed the connection"):  # noqa: PT012 - by whichever turn sees it
            while True:
                made.turn(1)
        made.drop()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_listens_is_no_broker(wake: int, says: bytes) -> None:
    closed = pytest.raises(Lost, match=r"the broker 127\.0\.0\.1:\d+ has closed the connection")
    with saying(says) as plan, closed:
        connect(plan, wake)


def test_files_of_tls_that_are_gone_by_now(wake: int, tmp_path: Path) -> None:
    with pytest.raises(Lost, match=r"the files of mqtt\.tls cannot be used: No such file"):
        connect(MqttPlan("127.0.0.1", tls=True, ca="gone.pem"), wake, tmp_path)
