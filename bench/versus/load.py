"""Load: callers of one server and a look at its readiness, for as long as an outage is watched. The same for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from bench.callers.tensors import Tensors
from bench.floors.slots import TornTensor
from bench.versus.callers import GrpcCaller, channel_to
from bench.versus.outage import Call, Look
from bench.versus.relays import NAME
from pipeline.kserve.messages import INFERENCE, methods

__all__ = ["watched"]

_METHODS = methods(INFERENCE)
_LOOK_S = 0.02
_LOOK_PATIENCE_S = 1.0
#: Before a caller asks again that has been refused.
_PAUSE_S = 0.01


def watched(
    where: str,
    nbytes: int,
    callers: int,
    before_s: float,
    after_s: float,
    patience_s: float,
    kill: Callable[[], object],
) -> tuple[list[Call], list[Look], float]:
    """Ask the relay of a server all the time; kill in the middle of it.

    Args:
        where: its gRPC.
        nbytes: of a tensor.
        callers: threads, each of which asks again as soon as it is answered.
        patience_s: after which a caller gives up, and its request has failed.
        after_s: of load after the kill; longer, if no request that was sent after it is over by then.

    Returns:
        What was noted, and when it ended, in seconds from the kill on.
    """
    tensors = Tensors(nbytes)
    over = threading.Event()
    calls: list[Call] = []
    looks: list[Look] = []
    with channel_to(where) as channel, channel_to(where) as other:

        def ask() -> None:
            caller = GrpcCaller(channel, patience_s)
            while not over.is_set():
                sent, failure = time.monotonic(), ""
                try:
                    caller(tensors.next())
                except grpc.RpcError as error:
                    failure = f"{error.code().name}: {_first_line(error.details())}"
                except TornTensor:
                    failure = "the answer of another tensor"
                calls.append(Call(sent, time.monotonic(), failure))
                if failure:
                    over.wait(_PAUSE_S)

        def look() -> None:
            while not over.is_set():
                at = time.monotonic()
                looks.append(Look(at, _said(other, "ServerReady"), _said(other, "ModelReady", name=NAME)))
                over.wait(_LOOK_S)

        threads = [threading.Thread(target=ask) for _ in range(callers)] + [threading.Thread(target=look)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(before_s)
            kill()
            # After it: a call that is sent while the victim is looked for may still be answered by it.
            killed = time.monotonic()
            time.sleep(after_s)
            while time.monotonic() < killed + patience_s and not any(call.sent > killed for call in tuple(calls)):
                time.sleep(_LOOK_S)
        finally:
            end = time.monotonic()
            over.set()
            for thread in threads:
                thread.join()
    return (
        [Call(call.sent - killed, call.over - killed, call.failure) for call in calls],
        [Look(each.at - killed, each.server, each.model) for each in looks],
        end - killed,
    )


def _said(channel: Any, method: str, **fields: Any) -> bool | None:
    row = _METHODS[method]
    try:
        frame = channel.unary_unary(row.path)(row.request(**fields).SerializeToString(), timeout=_LOOK_PATIENCE_S)
    except grpc.RpcError:
        return None
    return bool(row.response.FromString(frame).ready)


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0][:120] if lines else ""
