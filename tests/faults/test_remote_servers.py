"""A server of KServe v2 that dies, hangs, answers garbage, or comes back: typed errors, never a hang, nothing left."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from http import server as http_server
from pathlib import Path
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
import yaml

import pipeline
from pipeline import errors
from pipeline.errors import RequestError
from pipeline.kserve import grpc_response
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.values import InferResponse, InferTensor
from tests.faults.garbage_servers import http, scripted, scripted_grpc
from tests.integration.gateways import Http, serving

X = np.array([1, 2], np.float32)
#: Far above what any of these takes, and far below the time that a hanging test is killed after.
LONG_MS = 30_000

JSON_OF_Y = {"model_name": "m", "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [3, 4]}]}
GOOD = json.dumps(JSON_OF_Y).encode()


def changed(**fields: Any) -> bytes:
    return json.dumps({"model_name": "m", "outputs": [{**JSON_OF_Y["outputs"][0], **fields}]}).encode()  # type: ignore[dict-item]


def says(data: bytes) -> Callable[[socket.socket, int], None]:
    return lambda connection, number: connection.sendall(data)


def drips(connection: socket.socket, number: int) -> None:
    """A byte now and then: no step of it takes long."""
    connection.sendall(http(200, b"", length=1000)[:-2])
    while True:
        connection.sendall(b"X")
        time.sleep(0.02)


GARBAGE: dict[str, tuple[bytes, type[RequestError], str]] = {
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", errors.Unavailable, "connection broke"),
    "nothing": (b"", errors.Unavailable, "connection broke"),
    "half a body": (http(200, GOOD[:20], length=len(GOOD)), errors.Unavailable, "bytes too early"),
    "no JSON": (http(200, b"<html>"), errors.StageFailed, "cannot be read"),
    "another document": (http(200, b"[1, 2]"), errors.StageFailed, "cannot be read"),
    "another output": (http(200, changed(name="z")), errors.StageFailed, "expected the outputs y, found 'z'"),
    "another datatype": (http(200, changed(datatype="INT32")), errors.StageFailed, "expected FP32, found INT32"),
    "another shape": (http(200, changed(shape=[1, 2])), errors.StageFailed, r"expected shape \[2\], found \[1, 2\]"),
    "fewer numbers": (http(200, changed(data=[3])), errors.StageFailed, "cannot be read"),
    "a length beyond the body": (
        http(200, GOOD, f"{HEADER}: 100000\r\n"), errors.StageFailed, "expected at most the .* bytes of the body"
    ),
    "an endless header": (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 1000, errors.Unavailable, "connection broke"),
    "more than is taken": (http(200, b"", length=1 << 40), errors.StageFailed, "at most 1073741824 bytes"),
    "`detail` in place of `error`": (http(422, b'{"detail": "too cold"}'), errors.BadInput, "too cold"),
    "a proxy's page": (http(503, b"<html>upstream</html>"), errors.Unavailable, "upstream"),
    "too many": (http(429, b'{"error": "slow down"}'), errors.Overloaded, "slow down"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_over_http_is_a_typed_error(kind: str) -> None:
    data, error, text = GARBAGE[kind]
    with scripted(says(data)) as server, pipeline.RemoteInferenceManager(server.url) as manager:
        runner = manager.infer_runner("m")
        with pytest.raises(error, match=text):
            runner.infer(x=X, deadline_ms=LONG_MS).get(timeout=LONG_MS / 1e3)


def frame(**fields: Any) -> bytes:
    tensor = InferTensor(**{"name": "y", "datatype": "FP32", "shape": (2,), "data": memoryview(X.tobytes()), **fields})
    return b"".join(grpc_response.encode(InferResponse("m", "1", (tensor,))))


GARBAGE_FRAMES = {
    "no protobuf": (b"\xff\xff\xff", "cannot be read"),
    "half of one": (frame()[:-3], "cannot be read"),
    "fewer bytes": (frame(data=memoryview(b"1234")), "expected 8 bytes"),
    "another output": (frame(name="z"), "expected the outputs y"),
}


@pytest.mark.parametrize("kind", GARBAGE_FRAMES)
def test_garbage_over_grpc_is_a_typed_error(kind: str) -> None:
    data, text = GARBAGE_FRAMES[kind]
    with scripted_grpc(lambda frame, context: data) as url, pipeline.RemoteInferenceManager(url) as manager:
        runner = manager.infer_runner("m")
        with pytest.raises(errors.StageFailed, match=text):
            runner.infer(x=X, deadline_ms=LONG_MS).get(timeout=LONG_MS / 1e3)


def test_what_speaks_another_protocol_is_no_server() -> None:
    with scripted(says(b"")) as server:
        url = server.url.replace("http", "grpc")
        with pytest.raises(errors.Unavailable, match=f"no server of KServe v2 answers at {url}"):
            pipeline.RemoteInferenceManager(url, timeout_s=0.5)
    with scripted_grpc(lambda frame, context: b"") as url:
        url = url.replace("grpc", "http")
        with pytest.raises(errors.Unavailable, match="no server of KServe v2 answers at http") as raised:
            pipeline.RemoteInferenceManager(url, timeout_s=0.5)
        # Frames of HTTP/2 are no text for a terminal.
        assert str(raised.value).isprintable()
        assert "a port of gRPC is asked by a URL grpc://HOST:PORT" in str(raised.value)


class Paths(http_server.BaseHTTPRequestHandler):
    """A server of HTTP that knows these paths, and answers 404 to all others."""

    known: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.send_response(self.known.get(self.path, 404))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 (http.server's name)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to stderr."""


@contextmanager
def paths(**known: int) -> Iterator[str]:
    handler = type("Known", (Paths,), {"known": {f"/v2/health/{name}": status for name, status in known.items()}})
    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_of_something_else_is_refused_with_what_to_do() -> None:
    with paths() as url, pytest.raises(errors.Unavailable) as raised:
        pipeline.RemoteInferenceManager(url)
    told = str(raised.value)
    assert told.startswith(f"expected a server of KServe v2 at {url}, found a server that knows none of /v2, /v2/health/l")
    assert "such as that of metrics" in told
    assert "its port for HTTP, which is often 8000, with the path in front of /v2" in told


@pytest.mark.parametrize("known", [{"live": 200}, {"ready": 200}, {"ready": 503}, {"live": 400}], ids=str)
def test_a_server_without_metadata_is_one_if_it_knows_its_health(known: dict[str, int]) -> None:
    with paths(**known) as url, pipeline.RemoteInferenceManager(url) as manager:
        assert manager.get_models() == []
        assert "the server tells no metadata of its own" in manager.why()


def test_a_server_of_something_else_over_grpc_is_refused() -> None:
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with pytest.raises(errors.Unavailable, match=r"knows none of ServerMetadata, .* port for gRPC, .* often 8001$"):
                pipeline.RemoteInferenceManager(f"grpc://127.0.0.1:{port}")
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize("answer", [drips, lambda connection, number: connection.recv(1 << 20)], ids=["drips", "mute"])
def test_a_server_that_hangs_ends_a_request_at_its_deadline_and_without_one_by_its_silence(answer: Any) -> None:
    def hang(connection: socket.socket, number: int) -> None:
        answer(connection, number)
        connection.recv(1)

    with scripted(hang) as server, pipeline.RemoteInferenceManager(server.url, silence_s=0.5) as manager:
        runner = manager.infer_runner("m")
        with pytest.raises(errors.DeadlineExceeded):
            runner.infer(x=X, deadline_ms=100).get(timeout=200)
        with pytest.raises(errors.Unavailable, match=r"said nothing for 0.5 s"):
            runner.infer(x=X).get(timeout=200)


def test_what_was_lost_is_sent_again_if_the_caller_said_so() -> None:
    def answer(connection: socket.socket, number: int) -> None:
        if number > 2:
            connection.sendall(http(200, GOOD))

    with scripted(answer) as server, pipeline.RemoteInferenceManager(server.url) as manager:
        runner = manager.infer_runner("m")
        assert runner.infer(x=X, retries=2).get(timeout=200)["y"].tolist() == [3, 4]
        assert server.asked == 3
    with scripted(lambda connection, number: None) as server, pipeline.RemoteInferenceManager(server.url) as manager:
        runner = manager.infer_runner("m")
        with pytest.raises(errors.Unavailable):
            runner.infer(x=X).get(timeout=200)
        assert server.asked == 1


ECHO = """
from stages.spec import TensorSpec


class Echo:
    inputs = (TensorSpec("x", "float32", (128, 256)),)
    outputs = (TensorSpec("y", "float32", (128, 256)),)

    def process(self, batch):
        return {"y": batch.stack("x")}
"""


def test_a_server_that_dies_is_waited_for_and_one_that_comes_back_is_found(tmp_path: Path) -> None:
    """A gateway of ours, killed with -9 and started again on the same ports; its tensors are in shared memory."""
    (tmp_path / "echo.py").write_text(ECHO)
    config = tmp_path / "echo.yaml"
    document = {
        "name": "echo", "inputs": [{"name": "x", "dtype": "float32", "shape": [128, 256]}],
        "stages": [{"name": "s", "use": "./echo.py:Echo"}], "serve": {"shared_memory": ["/remote-"]},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(document))
    x = np.random.default_rng(1).random((128, 256)).astype(np.float32)
    with ExitStack() as stack:
        with serving(config) as first:
            http_port, grpc_port = first.url.rpartition(":")[2], first.grpc.rpartition(":")[2]
            managers = [
                stack.enter_context(pipeline.RemoteInferenceManager(url, patience_s=0.5))
                for url in (f"grpc://{first.grpc}", first.url)
            ]
            runners = [manager.infer_runner("echo") for manager in managers]
            for runner in runners:
                assert (runner.infer(x=x).get(timeout=200)["y"] == x).all()
            assert "shared memory" in runners[0].copied
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
            for runner in runners:
                # The first one finds that the connection has gone.
                for _ in range(2):
                    with pytest.raises(errors.Unavailable):
                        runner.infer(x=x).get(timeout=200)
                with pytest.raises(errors.DeadlineExceeded, match="the last attempt failed"):
                    runner.infer(x=x, deadline_ms=100).get(timeout=200)
        with serving(config, "--http-port", http_port, "--grpc-port", grpc_port) as second:
            assert second.url == first.url
            for runner in runners:
                answer = runner.infer(x=x, retries=3, deadline_ms=LONG_MS).get(timeout=200)
                assert (answer["y"] == x).all()
            stack.close()
            assert Http(second).get("/v2/systemsharedmemory/status") == []
    assert not list(Path("/dev/shm").glob(f"remote-{os.getpid()}-*"))
