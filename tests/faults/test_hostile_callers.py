"""Callers over the network that are slow, or gone at any moment: each costs only itself."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest

from pipeline.kserve import grpc_request, http_request
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.messages import INFERENCE, methods
from pipeline.kserve.values import InferRequest
from tests.faults.conftest import Folder
from tests.faults.load import until
from tests.fuzz.grpc_cases import PREFACE, request_headers, settings_frame
from tests.integration.gateways import MODELS, Gateway, Http, Rpc, serving, tensor

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

PATHS = {name: row.path for name, row in methods(INFERENCE).items()}
LARGE = InferRequest("identity_fp32", "", (tensor("INPUT0", np.zeros(1 << 20, np.float32)),), binary_output=True)
SMALL = InferRequest("faulty", "", (tensor("data", np.frombuffer(b"abc", np.uint8)),), binary_output=True)
EACH = 8
"""Callers of each kind: twice as many as there are slots."""


class Served:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._process = psutil.Process(gateway.process.pid)
        self.check_answers()
        self._descriptors = self._process.num_fds()

    def connect(self, port: str) -> socket.socket:
        host, number = port.removeprefix("http://").rsplit(":", 1)
        return socket.create_connection((host, int(number)))

    def check_answers(self) -> None:
        """More requests than there are slots are answered, over both fronts."""
        with closing(Rpc(self.gateway)) as rpc:
            for request in (SMALL, LARGE):
                frame = b"".join(grpc_request.encode(request))
                calls = [rpc.channel.unary_unary(PATHS["ModelInfer"]).future(frame, timeout=200) for _ in range(6)]
                assert all(call.result() for call in calls)
                assert Http(self.gateway).infer(request).outputs

    def check_all_is_back(self) -> None:
        until(lambda: self._inside() == 0)
        # What the client of the pipelines opens for itself is not much.
        until(lambda: self._process.num_fds() <= self._descriptors + 4)
        self.check_answers()

    def _inside(self) -> float:
        with httpx.Client() as client:
            text = client.get(self.gateway.metrics).text
        return sum(float(each) for each in re.findall(r"^trtlab_requests_inside\S+ (\S+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Folder(tmp_path_factory.mktemp("hostile"))
    slow = folder.config({"with.seconds": 0.2, "batch": {"max_size": 1}}, ingress={"slots": 4})
    with serving(slow, MODELS / "identity_fp32.yaml", errors=folder.path / "log") as gateway:
        yield Served(gateway)
        assert "Traceback" not in (folder.path / "log").read_text()


def http_head(request: InferRequest) -> tuple[bytes, bytes]:
    """The headers of a request, and its body."""
    body = http_request.encode(request)
    content = b"".join(body.parts)
    head = (
        f"POST /v2/models/{request.model}/infer HTTP/1.1\r\nHost: localhost\r\n{HEADER}: {body.json_length}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode(), content


def test_slow_callers_of_every_kind_cost_only_themselves(served: Served) -> None:
    head, content = http_head(LARGE)
    sent_over_http = {
        "nothing": b"",
        "half a line": b"POST /v2/mod",
        "headers without end": head[:-2],
        "half a body": head + content[:1000],
        "half a chunk": b"POST /v2/models/faulty/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab",
        "a request, whose answer is not read": head + content,
        "many requests, whose answers are not read": b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000,
    }
    sent_over_grpc = {
        "nothing": b"",
        "a beginning": PREFACE + settings_frame(),
        "a call without its message": PREFACE + settings_frame() + request_headers(1),
    }
    with ExitStack() as open_now:
        for port, kinds in ((served.gateway.url, sent_over_http), (served.gateway.grpc, sent_over_grpc)):
            for raw in kinds.values():
                for _ in range(EACH):
                    stream = open_now.enter_context(served.connect(port))
                    # What is not read at the other end need not leave; the rest stays where it is.
                    stream.setblocking(False)
                    with suppress(BlockingIOError):
                        stream.send(raw)
        rpc = open_now.enter_context(closing(Rpc(served.gateway)))
        # Nothing of it is read: neither its answers, nor its end.
        streams = [rpc.stream([LARGE] * 20) for _ in range(2)]
        served.check_answers()
        for stream in streams:
            stream.cancel()
    served.check_all_is_back()


@pytest.mark.parametrize("moment", ["in the body", "while it waits", "while its answer is written"])
def test_a_caller_over_http_may_be_gone_at_any_moment(served: Served, moment: str) -> None:
    for number in range(EACH):
        request = LARGE if moment == "while its answer is written" else SMALL
        head, content = http_head(request)
        with served.connect(served.gateway.url) as stream:
            stream.settimeout(60)
            stream.sendall(head + (content[:20] if moment == "in the body" else content))
            if request is LARGE:
                assert stream.recv(4) == b"HTTP"
            if number % 2:
                # Without a goodbye, as of a machine that is switched off and on again.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.check_all_is_back()


@pytest.mark.parametrize("moment", ["in the message", "while it waits", "while its answer is written"])
def test_a_caller_over_grpc_may_be_gone_at_any_moment(served: Served, moment: str) -> None:
    for _ in range(EACH):
        if moment == "in the message":
            with served.connect(served.gateway.grpc) as stream:
                stream.sendall(PREFACE + settings_frame() + request_headers(1) + bytes((0, 0, 99, 0, 0, 0, 0, 0, 1, 0, 0)))
            continue
        with closing(Rpc(served.gateway)) as rpc:
            if moment == "while it waits":
                call: Any = rpc.channel.unary_unary(PATHS["ModelInfer"]).future(b"".join(grpc_request.encode(SMALL)))
                call.cancel()
                with pytest.raises(grpc.FutureCancelledError):
                    call.result()
            else:
                call = rpc.stream([LARGE] * 4)
                assert next(call)
                call.cancel()
    served.check_all_is_back()
