"""Gateways in processes of their own, and clients of them that are made of the codec: for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from pipeline.errors import KserveError
from pipeline.interpreter import python_command
from pipeline.kserve import grpc_request, grpc_response, http_request, http_response
from pipeline.kserve.datatypes import OF_DTYPE, joined
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.messages import HEALTH, INFERENCE, methods
from pipeline.kserve.statuses import error_of_grpc, error_of_http
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Limits

MODELS = Path(__file__).parent / "kserve_models"
_METHODS = {**methods(INFERENCE), **methods(HEALTH)}
_WHERE = re.compile(r"on (https?://\S+), gRPC (\S+), metrics (\S+)")
LARGE = Limits(body=1 << 30, json=1 << 30)


def tensor(name: str, array: Any, datatype: str = "") -> InferTensor:
    """An input of a numpy array; one of objects has bytes."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        return InferTensor(name, "BYTES", array.shape, memoryview(joined(array.ravel().tolist())))
    kind = datatype or OF_DTYPE[array.dtype.name].name
    return InferTensor(name, kind, array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def array_of(response: InferResponse, name: str, dtype: Any) -> Any:
    """The values of an output."""
    (found,) = [output for output in response.outputs if output.name == name]
    assert found.data is not None
    return np.frombuffer(found.data, dtype).reshape(found.shape) if found.data.nbytes else np.empty(found.shape, dtype)


class Gateway:
    """A gateway that serves."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.line = line
        found = _WHERE.search(line)
        assert found is not None, line
        self.url, self.grpc, self.metrics = found.groups()


@contextmanager
def serving(*arguments: Any, errors: Path | None = None, http_port: str = "0") -> Iterator[Gateway]:
    """A gateway of `pipeline serve ARGUMENTS`, on any free ports unless one is named."""
    command = [*python_command("pipeline.__main__"), "serve", *map(str, arguments)]
    for option, port in (("--http-port", http_port), ("--grpc-port", "0"), ("--metrics-port", "0")):
        command += [] if option in arguments else [option, port]
    with (errors or Path(os.devnull)).open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it did not start: {errors and errors.read_text()}"
        yield Gateway(process, line)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(200)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        process.stdout.close()


class Http:
    """Calls over HTTP. Each is an exchange of its own, so that nothing stays open."""

    def __init__(self, gateway: Gateway, headers: Mapping[str, str] = {}) -> None:
        self.url = gateway.url
        self.headers = dict(headers)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        # There is no TLS here, and to read all roots of this machine takes longer than the call.
        with httpx.Client(timeout=200, verify=False) as client:
            return client.request(method, self.url + path, headers=headers, **options)

    def status_of(self, method: str, path: str) -> int:
        """As `request`, of an answer that may go on without end."""
        with (
            httpx.Client(timeout=200, verify=False) as client,
            client.stream(method, self.url + path, headers=self.headers) as answer,
        ):
            return answer.status_code

    def get(self, path: str) -> Any:
        """The document.

        Raises:
            KserveError: another status than 200.
        """
        return self._document(self.request("GET", path))

    def post(self, path: str, document: Any = None) -> Any:
        return self._document(self.request("POST", path, **({} if document is None else {"json": document})))

    def _document(self, response: httpx.Response) -> Any:
        if response.status_code != 200:
            raise error_of_http(response.status_code, response.content)
        return response.json() if response.content else None

    def infer(
        self, request: InferRequest, *, binary: bool = True, headers: Mapping[str, str] = {}
    ) -> InferResponse:
        """
        Raises:
            KserveError: another status than 200.
        """
        body = http_request.encode(request, binary)
        sent = dict(headers)
        if body.json_length is not None:
            sent[HEADER] = str(body.json_length)
        version = f"/versions/{request.version}" if request.version else ""
        response = self.request(
            "POST", f"/v2/models/{request.model}{version}/infer", content=b"".join(body.parts), headers=sent
        )
        if response.status_code != 200:
            raise error_of_http(response.status_code, response.content)
        regions = {output.name: output.region for output in request.outputs if output.region is not None}
        return http_response.decode(response.content, response.headers.get(HEADER), LARGE, regions)


class Rpc:
    """Calls over gRPC."""

    def __init__(self, gateway: Gateway, metadata: Iterable[tuple[str, str]] = ()) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(gateway.grpc, options)
        self.metadata = tuple(metadata)
        grpc.channel_ready_future(self.channel).result(timeout=200)

    def close(self) -> None:
        self.channel.close()

    def raw(self, method: str, frame: bytes, timeout: float | None = 60, **options: Any) -> bytes:
        """
        Raises:
            KserveError: another status than OK.
        """
        try:
            found: bytes = self.channel.unary_unary(_METHODS[method].path)(
                frame, timeout=timeout, metadata=self.metadata, **options
            )
        except grpc.RpcError as error:
            raise told(error) from None
        return found

    def call(self, method: str, **fields: Any) -> Any:
        row = _METHODS[method]
        return row.response.FromString(self.raw(method, row.request(**fields).SerializeToString()))

    def infer(self, request: InferRequest, **options: Any) -> InferResponse:
        frame = b"".join(grpc_request.encode(request))
        return grpc_response.decode(self.raw("ModelInfer", frame, **options), LARGE)

    def stream(self, requests: Iterable[InferRequest], metadata: Iterable[tuple[str, str]] = ()) -> Any:
        """The call; its responses by `grpc_response.decode_stream`."""
        frames = (b"".join(grpc_request.encode(request)) for request in requests)
        return self.channel.stream_stream(_METHODS["ModelStreamInfer"].path)(
            frames, timeout=200, metadata=(*self.metadata, *metadata)
        )


def told(error: Any) -> KserveError:
    """The error of a call."""
    return error_of_grpc(error.code().value[0], error.details() or "")


A = np.arange(16, dtype=np.int32)[None]
B = np.ones((1, 16), np.int32)


def simple(x: Any = A, y: Any = B, **fields: Any) -> InferRequest:
    """A request to the model `simple`."""
    fields = {"binary_output": True, "inputs": (tensor("INPUT0", x), tensor("INPUT1", y)), **fields}
    return InferRequest("simple", fields.pop("version", ""), **fields)


def refused(call: Callable[..., Any], *arguments: Any) -> KserveError:
    """Why this call is refused."""
    with pytest.raises(KserveError) as raised:
        call(*arguments)
    return raised.value
