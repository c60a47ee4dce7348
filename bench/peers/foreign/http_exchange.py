"""HTTP exchange: requests over HTTP/1.1 with a connection for each that is in flight, from one thread that polls.

A client of sockets, since a library's would cost more than some of the servers.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bench.peers.foreign.exchange import Exchange

__all__ = ["HttpExchange", "free_port", "head_of", "read_answer"]

_PATIENCE_S = 30.0
_START_S = 120.0


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def head_of(path: str, nbytes: int, content_type: str) -> bytes:
    """What goes before the body of a request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {nbytes}\r\n\r\n"
    ).encode()


def read_answer(connection: socket.socket) -> bytes:
    """The body of one response.

    Raises:
        ConnectionError: the server has closed it.
        RuntimeError: the status is not 200, or the response has no length.
    """
    text = b""
    while b"\r\n\r\n" not in text:
        text += _part(connection)
    head, _, body = text.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"content-length" not in fields:
        raise RuntimeError(f"expected a response with a length, found {head[:200]!r}")
    length = int(fields[b"content-length"])
    while len(body) < length:
        body += _part(connection)
    if head.split(b" ", 2)[1] != b"200":
        raise RuntimeError(f"expected the status 200, found {head[:100]!r}, {body[:300]!r}")
    return body


def _part(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 16)
    if not part:
        raise ConnectionError("the server has closed a connection")
    return part


class HttpExchange(Exchange):
    """A peer that is asked over HTTP on a port of 127.0.0.1: the tensor is the body, and the answer its stamps."""

    path = "/"
    content_type = "application/octet-stream"

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._connections: dict[int, socket.socket] = {}

    def start(self, nbytes: int, window: int) -> None:
        port = self.serve()
        self._await_ready(port, nbytes)
        self._head = head_of(self.path, nbytes, self.content_type)
        self._poll = select.poll()
        for _ in range(window):
            connection = self._connect(port)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN)
        self._idle = list(self._connections)

    def submit(self, number: int, place: Any) -> None:
        connection = self._connections[self._idle.pop()]
        connection.sendall(self._head)
        connection.sendall(place)

    def collect(self) -> Sequence[bytes]:
        ready = self._poll.poll(_PATIENCE_S * 1e3)
        if not ready:
            raise TimeoutError(f"no answer for {_PATIENCE_S:g} s")
        self._idle += [fd for fd, _ in ready]
        return [read_answer(self._connections[fd]) for fd, _ in ready]

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections = {}
        server, self._server = self._server, None
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(15)
            server.kill()
            server.wait()

    def spawn(self, *arguments: object, **environment: str) -> None:
        """Start the server with this interpreter; `close` ends it."""
        command = [sys.executable, *map(str, arguments)]
        self._server = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)

    def _await_ready(self, port: int, nbytes: int) -> None:
        """Until a request is answered."""
        end = time.monotonic() + _START_S
        while True:
            if self._server is not None and self._server.poll() is not None:
                raise RuntimeError(f"the server has ended with {self._server.returncode}")
            try:
                with self._connect(port) as connection:
                    connection.sendall(head_of(self.path, nbytes, self.content_type) + bytes(nbytes))
                    if read_answer(connection) == bytes(16):
                        return
            except (OSError, RuntimeError) as error:
                if time.monotonic() > end:
                    raise RuntimeError(f"the server was not ready within {_START_S:g} s: {error}") from error
            time.sleep(0.1)

    def _connect(self, port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @abstractmethod
    def serve(self) -> int:
        """Start the server; its port."""
