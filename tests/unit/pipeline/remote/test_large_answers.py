"""Answers that are larger than a client takes: the server's fault, and not the request's."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from pipeline.kserve.values import InferRequest
from pipeline.remote.address import address_of
from pipeline.remote.failures import TOLD, Failure
from pipeline.remote.grpc_link import GrpcLink
from pipeline.remote.http_link import HttpLink
from pipeline.remote.link import Link, Options, Payload

_LIMIT_S = 60.0
_MOST = 100


def outcome_of(link: Link) -> Failure:
    outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
    try:
        link.send(Payload(InferRequest("m", "", ()), b"{}"), _LIMIT_S, outcomes.put)
        found = outcomes.get(timeout=_LIMIT_S)
    finally:
        link.close()
    assert isinstance(found, Failure)
    return found


@pytest.mark.parametrize(
    "answer",
    [b"Content-Length: 1000000000000\r\n\r\n", b"\r\n" + bytes(_MOST + 1)],
    ids=["whose length says so", "without a length"],
)
def test_an_answer_over_http_that_is_too_large_is_the_servers_fault(answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_LIMIT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        address = address_of(f"http://127.0.0.1:{listener.getsockname()[1]}")
        found = outcome_of(HttpLink(address, Options(max_response=_MOST)))
        thread.join(_LIMIT_S)
    assert (found.kind, found.code) == (TOLD, "INTERNAL")
    assert found.message.startswith(f"the server's answer cannot be read: expected at most {_MOST} bytes, found ")


@pytest.fixture
def port() -> Iterator[int]:
    class Large(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: bytes(_MOST + 1))

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[Large()])
        found = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield found
        server.stop(None).wait(_LIMIT_S)


def test_an_answer_over_grpc_that_is_too_large_is_the_servers_fault(port: int) -> None:
    found = outcome_of(GrpcLink(address_of(f"grpc://127.0.0.1:{port}"), Options(max_response=_MOST)))
    assert (found.kind, found.code) == (TOLD, "INTERNAL")
    assert found.message.startswith("the server's answer cannot be read: ")
