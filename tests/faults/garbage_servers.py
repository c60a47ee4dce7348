"""Servers of a real socket that say what a test has written down: they answer garbage, half a body, or nothing."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from typing import Any

import grpc

from pipeline.kserve.messages import INFERENCE, filled, methods

TENSOR = {"datatype": "FP32", "shape": [2]}
METADATA = {
    "name": "m", "versions": ["1"], "inputs": [{"name": "x", **TENSOR}], "outputs": [{"name": "y", **TENSOR}]
}  # fmt: skip
SERVER = {"name": "scripted", "version": "0", "extensions": ["binary_tensor_data"]}


def http(status: int, body: bytes, headers: str = "", *, length: int | None = None) -> bytes:
    """A response of HTTP."""
    said = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Length: {said}\r\n{headers}\r\n".encode() + body


class Scripted:
    """An HTTP server: a model `m`, whose inference answers what `answer` gives.

    `answer(connection, number)` sends what it wants to; the connection is closed afterwards.
    """

    def __init__(self, answer: Callable[[socket.socket, int], None]) -> None:
        self._answer = answer
        self.asked = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._door.accept()
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                head += chunk
            head, _, body = head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            # A connection that is closed with bytes unread is reset, which may take away what was sent before.
            while length is not None and len(body) < int(length[1]) and (chunk := connection.recv(65536)):
                body += chunk
            path = head.split(b" ", 2)[1].decode()
            close = "Connection: close\r\n"
            if path == "/v2":
                connection.sendall(http(200, json.dumps(SERVER).encode(), close))
            elif path.endswith("/infer"):
                self.asked += 1
                self._answer(connection, self.asked)
            elif path == "/v2/models/m":
                connection.sendall(http(200, json.dumps(METADATA).encode(), close))
            elif path == "/v2/health/live" and self.asked:
                # It lives no more, once it was asked to infer: so silence is noticed.
                connection.recv(1)
            else:
                connection.sendall(http(404, b'{"detail": "there is none"}', close))

    def close(self) -> None:
        # accept() of another thread does not end by close alone.
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._open:
            connection.close()


@contextmanager
def scripted(answer: Callable[[socket.socket, int], None]) -> Iterator[Scripted]:
    server = Scripted(answer)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def scripted_grpc(answer: Callable[[bytes, Any], bytes]) -> Iterator[str]:
    """A server of gRPC with the model `m`, whose inference answers what `answer(frame, context)` gives; its URL."""
    known = methods(INFERENCE)
    documents: dict[str, dict[str, Any]] = {
        "ServerMetadata": {**SERVER, "extensions": []}, "ModelMetadata": METADATA, "ServerLive": {"live": True},
    }  # fmt: skip

    def told(name: str) -> Any:
        text = filled(f"{name}Response", documents[name]).SerializeToString()
        return grpc.unary_unary_rpc_method_handler(lambda frame, context: text)

    handlers = {name: told(name) for name in documents}
    handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(answer)
    assert handlers.keys() <= known.keys()
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INFERENCE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
