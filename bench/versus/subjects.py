"""Subjects: a server and the callers that ask it, as `bench.measure` measures them; and our zero-copy client.

    Crowd       W threads, each with a caller of its own, before a server
    ZeroCopy    an application that fills the pipeline's slots itself: no gateway
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.callers.tensors import Tensors
from bench.floors.slots import TornTensor
from bench.measure import Flow, Subject
from bench.relay import PipelineRelay, RelayRun
from bench.versus import relays, repository
from bench.versus.callers import (
    BodyCaller,
    Caller,
    FrameCaller,
    GrpcCaller,
    HttpCaller,
    RegionCaller,
    channel_to,
)
from bench.versus.gateway import Gateway
from bench.versus.handler import Handler
from bench.versus.mosec import Mosec
from bench.versus.triton import Triton
from pipeline.client.future import Future

__all__ = ["SUBJECTS", "Server", "gateway", "triton"]

_PATIENCE_S = 60.0


class Server(Protocol):
    """What callers ask: processes, and where they listen."""

    http: str
    grpc: str

    def pids(self) -> dict[str, list[int]]:
        """Its processes, by group."""

    def close(self) -> None:
        """End it."""


def gateway(folder: Path, nbytes: int, window: int) -> Gateway:
    """Ours, with the relay."""
    config = folder / "relay.yaml"
    config.write_text(relays.config_of(nbytes, window))
    return Gateway(config, folder / "log")


def triton(folder: Path, nbytes: int, window: int) -> Triton:
    """Triton, with the relay."""
    return Triton(repository.write(folder / "models", relays.ENSEMBLE), folder / "log")


Start = Callable[[Path, int, int], Server]
Make = Callable[[Server, ExitStack, int, int], Sequence[Caller]]


def over_grpc(server: Server, stack: ExitStack, nbytes: int, count: int) -> list[GrpcCaller]:
    """Callers whose tensors are in the messages."""
    channel = stack.enter_context(channel_to(server.grpc))
    return [GrpcCaller(channel) for _ in range(count)]


def over_regions(server: Server, stack: ExitStack, nbytes: int, count: int) -> list[RegionCaller]:
    """Callers whose tensors are in shared memory."""
    channel = stack.enter_context(channel_to(server.grpc))
    return [RegionCaller(channel, nbytes, number) for number in range(count)]


def over_http(server: Server, stack: ExitStack, nbytes: int, count: int) -> list[HttpCaller]:
    """Callers over HTTP."""
    return [HttpCaller(server.http) for _ in range(count)]


def with_bodies(server: Server, stack: ExitStack, nbytes: int, count: int) -> list[HttpCaller]:
    """Callers of mosec."""
    return [BodyCaller(server.http) for _ in range(count)]


def with_frames(server: Server, stack: ExitStack, nbytes: int, count: int, *, bare: bool) -> list[FrameCaller]:
    """Callers of the empty handler."""
    channel = stack.enter_context(channel_to(server.grpc))
    return [FrameCaller(channel, bare) for _ in range(count)]


class Crowd:
    """A `bench.measure.Subject`.

    Args:
        name: of the subject.
        start: starts the server, in a folder, for tensors of so many bytes, with so many requests under way.
        make: makes so many callers of it; what they share is closed by the stack.
    """

    def __init__(self, name: str, start: Start, make: Make) -> None:
        self.name = name
        self._start = start
        self._make = make
        self._stack = ExitStack()

    def setup(self, nbytes: int, window: int) -> None:
        self._tensors = Tensors(nbytes)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="trt-versus-")))
        self._server = self._start(folder, nbytes, window)
        self._stack.callback(self._server.close)
        self._callers = list(self._make(self._server, self._stack, nbytes, window))
        for caller in self._callers:
            self._stack.callback(caller.close)
        #: They stay: the CPU time of a thread that has ended is not counted.
        self._crew = ThreadPoolExecutor(window)
        self._stack.callback(self._crew.shutdown)
        self.throughput(0.1, window)
        self._pids = {"caller": [os.getpid()], **self._server.pids()}

    def latency(self, seconds: float) -> list[float]:
        return list(self.throughput(seconds, 1).samples)

    def throughput(self, seconds: float, window: int) -> Flow:
        # Each waits for all, so none does the work of two.
        together = threading.Barrier(window, timeout=_PATIENCE_S)
        start = time.perf_counter()
        end = start + seconds
        calls = [self._crew.submit(self._calls, caller, together, end) for caller in self._callers[:window]]
        samples = [sample for each in calls for sample in each.result()]
        return Flow(len(samples), time.perf_counter() - start, samples)

    def _calls(self, caller: Caller, together: threading.Barrier, end: float) -> list[float]:
        """One call after the other until `end`, at least one; the microseconds of each."""
        clock, samples = time.perf_counter, []
        together.wait()
        start = clock()
        while True:
            caller(self._tensors.next())
            now = clock()
            samples.append((now - start) * 1e6)
            if now >= end:
                return samples
            start = now

    def pids(self) -> dict[str, list[int]]:
        return self._pids

    def close(self) -> None:
        self._stack.close()


class ZeroCopy(PipelineRelay):
    """A `bench.measure.Subject`: the relay through `pipeline.client.Client`, without a gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "zero-copy"
        self._input = "IN"

    def _start(self, nbytes: int, window: int) -> RelayRun:
        return RelayRun(relays.config_of(nbytes, window))

    def _check(self, sent: tuple[Future, int]) -> None:
        future, seq = sent
        with future.get(15.0) as result:
            words: Any = result["OUT"].view(np.uint64)
            if words[0] != seq or words[1] != ~np.uint64(seq):
                raise TornTensor(f"request {seq} came back as {words[0]} and {~words[1]}")


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "zero-copy": ZeroCopy,
    **{
        name: partial(Crowd, name, start, make)
        for name, start, make in (
            ("grpc-shm", gateway, over_regions),
            ("grpc", gateway, over_grpc),
            ("http", gateway, over_http),
            ("triton-grpc-shm", triton, over_regions),
            ("triton-grpc", triton, over_grpc),
            ("triton-http", triton, over_http),
            ("mosec", lambda folder, nbytes, window: Mosec(folder / "log"), with_bodies),
            ("floor-grpc", lambda folder, nbytes, window: Handler(), partial(with_frames, bare=False)),
            ("floor-grpc-shm", lambda folder, nbytes, window: Handler(), partial(with_frames, bare=True)),
        )
    },
}
"""By name."""
