"""HTTP of the drivers: what is sent, and which answers are read."""

from __future__ import annotations

import socket

import pytest

from bench.peers.foreign.http_exchange import head_of, read_answer


def answered(*parts: bytes) -> bytes:
    """What is read if a server sends these parts and closes."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            for part in parts:
                theirs.sendall(part)
        return read_answer(ours)


def test_a_request_has_the_length_and_the_type_of_its_body() -> None:
    assert head_of("/x", 3, "a/b") == (
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\n"
    )


def test_an_answer_in_parts_is_read_to_its_length() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\nContent-", b"Length: 4\r\n\r\nab", b"cd") == b"abcd"


def test_another_status_is_an_error_with_what_the_server_said() -> None:
    with pytest.raises(RuntimeError, match=r"expected the status 200, found .*429.*full"):
        answered(b"HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nfull")


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(RuntimeError, match="expected a response with a length"):
        answered(b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_server_that_closes_in_the_middle_is_told() -> None:
    with pytest.raises(ConnectionError, match="closed"):
        answered(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
