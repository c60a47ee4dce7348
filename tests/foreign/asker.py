"""Asker: a server of KServe v2 that is asked over both fronts, and what it answers in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import grpc

from pipeline.errors import KserveError
from pipeline.kserve import grpc_request, grpc_response, http_request, http_response
from pipeline.kserve.grpc_response import decode_stream
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.values import InferRequest, InferResponse
from tests.integration.gateways import LARGE, Http, Rpc


class Answer(NamedTuple):
    status: str
    text: str = ""
    value: Any = None


class Asker:
    """A server, asked over both fronts."""

    def __init__(self, url: str, where: str) -> None:
        self.http = Http(SimpleNamespace(url=url))  # type: ignore[arg-type]
        self.rpc = Rpc(SimpleNamespace(grpc=where))  # type: ignore[arg-type]

    def close(self) -> None:
        self.rpc.close()

    def get(self, path: str, value: Callable[[Any], Any] = lambda document: None) -> Answer:
        return self._read(self.http.request("GET", path), value)

    def post(self, path: str, document: Any = None, value: Callable[[Any], Any] = lambda document: None) -> Answer:
        options = {} if document is None else {"json": document}
        return self._read(self.http.request("POST", path, **options), value)

    def send(self, path: str, content: bytes, headers: Mapping[str, str] = {}) -> Answer:
        return self._read(self.http.request("POST", path, content=content, headers=headers), lambda document: None)

    def _read(self, response: Any, value: Callable[[Any], Any]) -> Answer:
        document = None
        with suppress(ValueError):
            document = response.json() if response.content else None
        if response.status_code != 200:
            text = document.get("error", "") if isinstance(document, dict) else response.text
            return Answer(str(response.status_code), text)
        return Answer("200", "", value(document))

    def call(self, method: str, value: Callable[[Any], Any] = lambda message: None, /, **fields: Any) -> Answer:
        return self._called(lambda: value(self.rpc.call(method, **fields)))

    def _called(self, call: Callable[[], Any]) -> Answer:
        try:
            return Answer("OK", "", call())
        except KserveError as error:
            # The code of a status that several share is the first one's, and no server here tells them apart.
            return Answer(error.code, str(error))

    def infer_http(self, request: InferRequest) -> Answer:
        body = http_request.encode(request)
        headers = {} if body.json_length is None else {HEADER: str(body.json_length)}
        version = f"/versions/{request.version}" if request.version else ""
        response = self.http.request(
            "POST", f"/v2/models/{request.model}{version}/infer", content=b"".join(body.parts), headers=headers
        )
        if response.status_code != 200:
            return self._read(response, lambda document: None)
        regions = {output.name: output.region for output in request.outputs if output.region is not None}
        return Answer("200", "", values(http_response.decode(response.content, response.headers.get(HEADER), LARGE, regions)))

    def infer_grpc(self, request: InferRequest) -> Answer:
        return self.raw_grpc(b"".join(grpc_request.encode(request)))

    def raw_grpc(self, frame: bytes) -> Answer:
        return self._called(lambda: values(grpc_response.decode(self.rpc.raw("ModelInfer", frame), LARGE)))

    def stream(self, *requests: InferRequest) -> Answer:
        def parts() -> list[Any]:
            try:
                return [part_of(*decode_stream(frame)) for frame in self.rpc.stream(requests)]
            except grpc.RpcError as error:
                raise KserveError(error.details() or "", error.code().name) from None

        return self._called(parts)


def values(response: InferResponse) -> Any:
    outputs = {
        output.name: (output.datatype, output.shape, None if output.data is None else bytes(output.data))
        for output in response.outputs
    }
    return response.model, response.version, response.id, outputs


def part_of(response: InferResponse, error: str) -> Any:
    final = response.parameters.get("triton_final_response")
    # The shape of what is one number is another one here: docs/kserve.md.
    outputs = {output.name: bytes(output.data or b"") for output in response.outputs}
    return response.id, final, outputs, kind_of(error)


#: What kind of error a text tells of; the first that is found. Texts of one kind say the same in the words of each server.
KINDS = {
    kind: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for kind, pattern in {
        "unknown version": r"'simple' version 7 is not found",
        "unknown model": r"unknown model|no available versions|model 'nope' is not available|Model version not ready",
        "method": r"Method Not Allowed",
        "path": r"Not Found$",
        "raw body": r"raw request",
        "bytes": r"unexpected size for input 'INPUT1'",
        "header": r"inference header size|Inference-Header-Content-Length: expected at most",
        "FP16": r"receiving FP16 data via JSON is not supported",
        "reserved": r"keys (starting|that start) with 'triton_'",
        "missing input": r"missing required input\(s\) \['INPUT1'\]",
        "shape": r"unexpected shape for input 'INPUT[01]' for model 'simple'",
        "datatype": r"data-type is 'FP32', but model 'simple' expects 'INT32'",
        "output": r"unexpected inference output 'ZZ' for model 'simple'",
        "rows": r"inference request batch-size must be <= 8",
        "decoupled": r"support models with decoupled transaction policy",
        "contents": r"raw_input_contents",
        "registered": r"shared memory region 'in' already in manager",
        # Over HTTP, 2.51 says the second.
        "larger": r"Invalid shared memory region: '/conf_versus'|failed to register shared memory region 'larger'",
        "no key": r"Unable to open shared memory region: '/conf_none'",
        "beyond": r"Invalid offset \+ byte size for shared memory region: 'in'",
        "no region": r"Unable to find (system )?shared memory region: 'gone'",
        "no model to load": r"failed to load 'nope', failed to poll from model repository",
    }.items()
}


def kind_of(text: str) -> str:
    """The kind of an error's text; "": there is none; the text itself if it is of no kind."""
    if not text:
        return ""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(text)), text)
