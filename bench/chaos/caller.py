"""Caller of the soak: a process that sends its share of the requests through a gateway, as a plain client of KServe.

    python -m bench.chaos.caller ADDRESS JOURNAL JSON     ADDRESS: http://host:port, or host:port of gRPC

The JSON and the journal are those of `bench.chaos.client`. A call whose connection breaks has failed, and its caller
knows it: "b 17". So does one that hears that the pipeline is not there: "u 17". Both are sent again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import grpc
import httpx
import numpy as np

from bench.chaos.requests import Rates, Request, expected, request
from pipeline.errors import KserveError
from pipeline.kserve import grpc_request, grpc_response, http_request, http_response
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.statuses import error_of_grpc, error_of_http
from pipeline.kserve.values import DEFAULT, InferRequest, InferResponse, InferTensor

__all__ = ["main"]

#: How many requests of one caller are under way at one time.
_THREADS = 4
_AGAIN_S = 0.05
_TIMEOUT_S = 60.0
_METHOD = "/inference.GRPCInferenceService/ModelInfer"

#: What the codes stand for here.
_ENDS = {"INTERNAL": "StageCrashed", "INVALID_ARGUMENT": "BadInput", "DEADLINE_EXCEEDED": "DeadlineExceeded"}


class _Broken(Exception):
    """The connection is gone, or there was none."""


Ask = Callable[[InferRequest], InferResponse]


def _over_http(url: str) -> Ask:
    client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def ask(sent: InferRequest) -> InferResponse:
        body = http_request.encode(sent)
        try:
            response = client.post(
                f"{url}/v2/models/{sent.model}/infer",
                content=b"".join(body.parts), headers={HEADER: str(body.json_length)},
            )  # fmt: skip
        except httpx.TransportError as error:
            raise _Broken from error
        if response.status_code != 200:
            raise error_of_http(response.status_code, response.content)
        return http_response.decode(response.content, response.headers.get(HEADER), DEFAULT)

    return ask


def _over_grpc(address: str) -> Ask:
    # Otherwise it waits for seconds before it connects to a gateway that is back.
    channel = grpc.insecure_channel(
        address, [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    )
    call = channel.unary_unary(_METHOD)

    def ask(sent: InferRequest) -> InferResponse:
        try:
            frame = call(b"".join(grpc_request.encode(sent)), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE and "pipeline" not in (error.details() or ""):
                raise _Broken from error
            raise error_of_grpc(error.code().value[0], error.details() or "") from error
        return grpc_response.decode(frame, DEFAULT)

    return ask


def _sent(each: Request) -> InferRequest:
    data = np.ascontiguousarray(each.values).view(np.uint8).data
    parameters: dict[str, int] = {} if each.deadline_ms is None else {"timeout": max(1, int(each.deadline_ms * 1000))}
    values = InferTensor("values", "INT64", each.values.shape, data)
    return InferRequest("chaos", "", (values,), parameters=parameters, binary_output=True)


class _Caller:
    def __init__(self, ask: Ask, journal: int, todo: list[Request], rate: float) -> None:
        self._ask = ask
        self._journal = journal
        self._todo = deque(todo)
        self._began = time.monotonic()
        self._rate = rate
        self._begun = 0
        self._mutex = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._work) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._mutex:
                if not self._todo:
                    return
                each = self._todo.popleft()
                self._begun += 1
                due = self._began + self._begun / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._until_over(each)

    def _until_over(self, each: Request) -> None:
        while True:
            self._write(f"s {each.number}")
            try:
                response = self._ask(_sent(each))
            except _Broken:
                self._write(f"b {each.number}")
            except KserveError as error:
                if error.code != "UNAVAILABLE":
                    self._write(f"a {each.number} {_ENDS.get(error.code, error.code)}")
                    return
                self._write(f"u {each.number}")
            else:
                self._write(f"a {each.number} {'ok' if _right(response, each) else 'wrong'}")
                return
            time.sleep(_AGAIN_S)

    def _write(self, line: str) -> None:
        os.write(self._journal, f"{line}\n".encode())


def _right(response: InferResponse, each: Request) -> bool:
    (output,) = response.outputs
    assert output.data is not None
    return np.array_equal(np.frombuffer(output.data, np.int64), expected(each.values))


def main() -> None:
    """Entry point of the process."""
    address, path, document = sys.argv[1:]
    told = json.loads(document)
    journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    rates = Rates(**told["rates"])
    todo = [request(told["seed"], number, rates, told["places"]) for number in told["numbers"]]
    ask = _over_http(address) if address.startswith("http") else _over_grpc(address)
    _Caller(ask, journal, todo, told["rate"]).run()


if __name__ == "__main__":
    main()
