"""Odd requests over HTTP and gRPC: each has an answer that says why, and the gateway is as it was.

Cases are made of a number alone. One that fails is shortened, and its message says how to send it alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest

from pipeline.kserve.grpc_response import decode_stream
from tests.fuzz import grpc_cases, http_cases
from tests.fuzz.conftest import Target
from tests.fuzz.exchanges import WATCHDOG_S, exchange, why_not
from tests.fuzz.grpc_cases import METHODS, Call
from tests.fuzz.mutations import smaller
from tests.integration.gateways import Rpc, simple

_TAKEN = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "PERMISSION_DENIED", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED",
}  # fmt: skip
_AS_TRITON = ("failed to load", "Unable to open shared memory region")


@pytest.fixture(scope="module")
def rpc(target: Target) -> Iterator[Rpc]:
    with closing(Rpc(target.gateway)) as rpc:
        yield rpc


def each_case(front: str, count: int, check: Callable[[int], tuple[str, Any]]) -> None:
    """Send the cases of `count` numbers, or that of FUZZ_CASE.

    Args:
        check: sends one; returns what is wrong, and the case in its shortest form.
    """
    chosen = os.environ.get("FUZZ_CASE", "")
    for seed in [int(chosen)] if chosen else range(count):
        reason, short = check(seed)
        if reason:
            alone = f"FUZZ_CASE={seed} pytest {os.path.relpath(__file__)} -k {front}"
            pytest.fail(f"{reason}\n  {short}\n  alone: {alone}", pytrace=False)


# -- HTTP -----------------------------------------------------------------------------------------


def why_http(target: Target, raw: bytes) -> str:
    """What is wrong with the gateway's answers to these bytes; empty: nothing."""
    try:
        return why_not(raw, *exchange(target.address, raw))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def http_case(target: Target, seed: int) -> tuple[str, str]:
    raw = http_cases.case(seed)
    if not (reason := why_http(target, raw)):
        return "", ""
    sort = reason.partition(":")[0]
    short = smaller(raw, lambda shorter: why_http(target, shorter).partition(":")[0] == sort)
    return reason, repr(short[:1000])


def test_every_odd_request_over_http_has_an_answer(target: Target) -> None:
    each_case("over_http", 500, lambda seed: http_case(target, seed))
    target.check_unharmed()


@pytest.mark.foreign
@pytest.mark.timeout(1800)
def test_every_odd_request_of_very_many_over_http_has_an_answer(target: Target) -> None:
    each_case("over_http", 10_000, lambda seed: http_case(target, seed))
    target.check_unharmed()


# -- gRPC -----------------------------------------------------------------------------------------


def why_grpc(rpc: Rpc, call: Call) -> str:
    """What is wrong with the gateway's answer to this call; empty: nothing."""
    row = METHODS[call.method]
    try:
        if call.method == "ModelStreamInfer":
            frames = rpc.channel.stream_stream(row.path)(iter(call.frames), timeout=WATCHDOG_S, metadata=call.metadata)
            errors = [error for _, error in map(decode_stream, frames) if error]
            return next((f"it tells of the inside: {error}" for error in errors if _inside(error)), "")
        answer = rpc.channel.unary_unary(row.path)(call.frames[0], timeout=WATCHDOG_S, metadata=call.metadata)
        row.response.FromString(answer)
    except grpc.RpcError as error:
        return _why_status(error, call)
    return ""


def _inside(text: str) -> bool:
    return "Traceback" in text or ".py" in text or "the server has failed" in text


def _why_status(error: Any, call: Call) -> str:
    code, details = error.code().name, error.details() or ""
    if _inside(details):
        return f"{code} tells of the inside: {details[:300]}"
    if code in _TAKEN or (code == "INTERNAL" and details.startswith(_AS_TRITON)):
        return ""
    # A request may say itself that it has no time. grpcio says it otherwise: that is the watchdog.
    if code == "DEADLINE_EXCEEDED" and details != "Deadline Exceeded" and any(b"timeout" in f for f in call.frames):
        return ""
    return f"{code}: {details[:300]}"


def grpc_case(rpc: Rpc, seed: int) -> tuple[str, str]:
    call = grpc_cases.case(seed)
    if not (reason := why_grpc(rpc, call)):
        return "", ""
    sort = reason.partition(":")[0]

    def fails(*frames: bytes) -> bool:
        return why_grpc(rpc, replace(call, frames=frames)).partition(":")[0] == sort

    for frame in call.frames:
        if fails(frame):
            return reason, repr(replace(call, frames=(smaller(frame, fails),)))
    return reason, repr(call)[:3000]


def test_every_odd_call_over_grpc_has_a_status(target: Target, rpc: Rpc) -> None:
    each_case("over_grpc", 500, lambda seed: grpc_case(rpc, seed))
    target.check_unharmed()


@pytest.mark.foreign
@pytest.mark.timeout(1800)
def test_every_odd_call_of_very_many_over_grpc_has_a_status(target: Target, rpc: Rpc) -> None:
    each_case("over_grpc", 10_000, lambda seed: grpc_case(rpc, seed))
    target.check_unharmed()


def connect_oddly(target: Target, seed: int) -> None:
    host, port = target.gateway.grpc.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as stream, suppress(OSError):
        stream.settimeout(0.01)
        stream.sendall(grpc_cases.connection(seed))
        while stream.recv(1 << 16):
            pass


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.foreign)])
@pytest.mark.timeout(600)
def test_odd_connections_of_http2_harm_no_other(target: Target, rpc: Rpc, count: int) -> None:
    for seed in range(count):
        connect_oddly(target, seed)
        if not seed % 20:
            # Over the connection that was there before.
            rpc.infer(simple(), timeout=WATCHDOG_S)
    target.check_unharmed()
