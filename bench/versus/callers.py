"""Callers: one client for all servers: it makes a request of a tensor, and checks the answer.

    GrpcCaller      ModelInfer, the tensor in the message
    RegionCaller    ModelInfer, the tensor in system shared memory, where the caller has copied it to
    HttpCaller      POST /v2/models/NAME/infer, the tensor in the body, on a connection that stays open
    BodyCaller      POST /inference, the tensor is the body: mosec
    FrameCaller     the empty handler of `handler.py`

Every caller is used by one thread at a time. Callers of gRPC share a channel, as those of one program do.
"""

from __future__ import annotations

import http.client
import mmap
import os
from typing import Any, Protocol

import grpc
import numpy as np

from bench.callers.tensors import Tensor
from bench.floors.slots import TornTensor
from bench.versus.handler import METHOD
from bench.versus.relays import KEYS, NAME
from pipeline.kserve import grpc_request, grpc_response, http_request, http_response
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.messages import INFERENCE, methods
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Region

__all__ = [
    "BodyCaller", "Caller", "FrameCaller", "GrpcCaller", "HttpCaller", "RefusedCall", "RegionCaller", "channel_to",
]  # fmt: skip

_METHODS = methods(INFERENCE)
_PATIENCE_S = 60.0


class RefusedCall(RuntimeError):
    """A server has answered with an error over HTTP; over gRPC it is grpc.RpcError."""


class Caller(Protocol):
    """What asks a server."""

    def __call__(self, sent: Tensor) -> None:
        """
        Raises:
            TornTensor: the answer is that of another tensor.
        """

    def close(self) -> None:
        """Give back what the server and the system hold for it."""


def channel_to(where: str) -> Any:
    """A channel of gRPC, for messages of any size."""
    return grpc.insecure_channel(
        where, [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    )


class GrpcCaller:
    """See above.

    Args:
        channel: see `channel_to`; the code that made it closes it.
        timeout_s: of a call.
    """

    def __init__(self, channel: Any, timeout_s: float = _PATIENCE_S) -> None:
        self._infer = channel.unary_unary(_METHODS["ModelInfer"].path)
        self._timeout_s = timeout_s

    def __call__(self, sent: Tensor) -> None:
        frame = b"".join(grpc_request.encode(_request(self._input(sent))))
        _check(grpc_response.decode(self._infer(frame, timeout=self._timeout_s)), sent)

    def _input(self, sent: Tensor) -> InferTensor:
        return _input(sent)

    def close(self) -> None:
        pass


class RegionCaller(GrpcCaller):
    """See above.

    Args:
        nbytes: of a tensor.
        number: of this caller; of the callers of one server each has another one.
    """

    def __init__(self, channel: Any, nbytes: int, number: int) -> None:
        super().__init__(channel)
        self._channel = channel
        self._key = f"{KEYS}{os.getpid()}-{number}"
        self._region = Region(self._key[1:], 0, nbytes)
        descriptor = os.open(f"/dev/shm{self._key}", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
            self._memory = mmap.mmap(descriptor, nbytes)
        finally:
            os.close(descriptor)
        self._view = np.frombuffer(self._memory, np.uint8)
        self._call("SystemSharedMemoryRegister", name=self._region.name, key=self._key, offset=0, byte_size=nbytes)

    def _input(self, sent: Tensor) -> InferTensor:
        np.copyto(self._view, sent.array)
        return InferTensor("IN", "UINT8", sent.array.shape, region=self._region)

    def _call(self, method: str, **fields: Any) -> None:
        row = _METHODS[method]
        self._channel.unary_unary(row.path)(row.request(**fields).SerializeToString(), timeout=_PATIENCE_S)

    def close(self) -> None:
        del self._view
        self._memory.close()
        os.unlink(f"/dev/shm{self._key}")
        self._call("SystemSharedMemoryUnregister", name=self._region.name)


class HttpCaller:
    """See above."""

    def __init__(self, where: str) -> None:
        self._connection = http.client.HTTPConnection(where, timeout=_PATIENCE_S)

    def __call__(self, sent: Tensor) -> None:
        body = http_request.encode(_request(_input(sent)))
        headers = {HEADER: str(body.json_length), "Content-Type": "application/octet-stream"}
        answer, found = self._post(f"/v2/models/{NAME}/infer", b"".join(body.parts), headers)
        _check(http_response.decode(answer, found.getheader(HEADER)), sent)

    def _post(self, path: str, body: bytes | memoryview, headers: dict[str, str]) -> tuple[bytes, Any]:
        self._connection.request("POST", path, body, headers)
        found = self._connection.getresponse()
        answer = found.read()
        if found.status != 200:
            raise RefusedCall(f"{found.status}: {answer[:500]!r}")
        return answer, found

    def close(self) -> None:
        self._connection.close()


class BodyCaller(HttpCaller):
    """See above."""

    def __call__(self, sent: Tensor) -> None:
        answer, _ = self._post("/inference", sent.array.data, {})
        if answer != sent.stamp:
            raise TornTensor(f"expected the ends {sent.stamp.hex()}, found {answer[:64].hex()}")


class FrameCaller:
    """See above.

    Args:
        bare: send only the tensor's last eight bytes, as one whose tensor lies in shared memory would.
    """

    def __init__(self, channel: Any, bare: bool) -> None:
        self._call = channel.unary_unary(METHOD)
        self._bare = bare

    def __call__(self, sent: Tensor) -> None:
        end = sent.stamp[8:]
        if (answer := self._call(end if self._bare else sent.array.tobytes(), timeout=_PATIENCE_S)) != end:
            raise TornTensor(f"expected the end {end.hex()}, found {answer[:64].hex()}")

    def close(self) -> None:
        pass


def _input(sent: Tensor) -> InferTensor:
    return InferTensor("IN", "UINT8", sent.array.shape, sent.array.data)


def _request(tensor: InferTensor) -> InferRequest:
    return InferRequest(NAME, "", (tensor,), binary_output=True)


def _check(response: InferResponse, sent: Tensor) -> None:
    (output,) = response.outputs
    if (answer := bytes(output.data or b"")) != sent.stamp:
        raise TornTensor(f"expected the ends {sent.stamp.hex()}, found {answer[:64].hex()}")
