"""Blocking: callers that wait for each answer in their thread.

    Direct         the three stages, one after the other, in this process: no pipeline
    Blocking       `Client.submit` and `Future.get`, in one thread
    Threads        `InferRunner.infer` and `InferFuture.get`, in W threads that share a runner
    ThreadsMany    `InferRunner.infer_many` of W requests in one thread, then the answers in order

Each is a `bench.measure.Subject`.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pipeline
from bench.callers.tensors import Tensors
from bench.direct import call
from bench.measure import Flow, Pids
from bench.relay import STAGES, RelayRun, config_of
from pipeline.client.client import Client
from pipeline.client.runner import InferRunner
from pipeline.repository.connected import ConnectedModels
from stages.loading import load_stage

__all__ = ["WINDOW", "Blocking", "Direct", "Threads", "ThreadsMany"]

WINDOW = 64
"""How many requests a client may have in the pipeline's slots, whatever the number of its callers. The others wait."""

#: Nothing here takes so long, unless something has died.
_PATIENCE_S = 30.0


class _Caller(ABC):
    """What all have: one call after the other."""

    name: str

    def setup(self, nbytes: int, window: int) -> None:
        """As `bench.measure.Subject.setup`."""
        self._tensors = Tensors(nbytes)
        self._begin(nbytes)
        self._call()

    def latency(self, seconds: float) -> list[float]:
        """As `bench.measure.Subject.latency`."""
        return self._calls(time.perf_counter() + seconds)

    def throughput(self, seconds: float, window: int) -> Flow:
        """As `bench.measure.Subject.throughput`: `window` callers."""
        start = time.perf_counter()
        samples = self._calls(start + seconds)
        return Flow(len(samples), time.perf_counter() - start, samples)

    def pids(self) -> Pids:
        """As `bench.measure.Subject.pids`."""
        return {"caller": [os.getpid()]}

    @abstractmethod
    def close(self) -> None:
        """As `bench.measure.Subject.close`."""

    def _calls(self, end: float) -> list[float]:
        """One call after the other until `end`, at least one; the microseconds of each."""
        clock, samples = time.perf_counter, []
        start = clock()
        while True:
            self._call()
            now = clock()
            samples.append((now - start) * 1e6)
            if now >= end:
                return samples
            start = now

    @abstractmethod
    def _begin(self, nbytes: int) -> None: ...

    @abstractmethod
    def _call(self) -> None: ...


class Direct(_Caller):
    """No pipeline: the stages are called."""

    name = "direct"

    def _begin(self, nbytes: int) -> None:
        self._stages = [load_stage("stages.relay:Relay", {"shape": [nbytes]}, Path()) for _ in STAGES]

    def _call(self) -> None:
        sent = self._tensors.next()
        values = {"tensor": sent.array}
        for stage in self._stages:
            values = call(stage, **values)
        sent.check(values["tensor"])

    def close(self) -> None:
        pass


class _OfRun(_Caller):
    """A caller of a pipeline."""

    _run: RelayRun | None = None

    def _begin(self, nbytes: int) -> None:
        self._run = RelayRun(config_of(nbytes, WINDOW))
        self._pids = self._run.pids()
        self._connect(str(self._run.run_dir))

    def pids(self) -> Pids:
        return {"caller": [os.getpid()], **self._pids}

    def close(self) -> None:
        self._leave()
        run, self._run = self._run, None
        if run is not None:
            run.close()

    @abstractmethod
    def _connect(self, run_dir: str) -> None: ...

    @abstractmethod
    def _leave(self) -> None: ...


class Blocking(_OfRun):
    """The client of one thread."""

    name = "blocking"
    _client: Client | None = None

    def _connect(self, run_dir: str) -> None:
        self._client = Client.connect(run_dir, name="bench")

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _call(self) -> None:
        sent = self._tensors.next()
        assert self._client is not None
        with self._client.submit(tensor=sent.array).get(_PATIENCE_S) as result:
            sent.check(result["tensor"])


class Threads(_OfRun):
    """A runner that threads share."""

    name = "threads"
    _manager: ConnectedModels | None = None
    _runner: InferRunner

    def _connect(self, run_dir: str) -> None:
        #: By their number. They stay: the CPU time of a thread that has ended is not counted.
        self._crews: dict[int, ThreadPoolExecutor] = {}
        self._manager = pipeline.connect(run_dir)
        self._runner = self._manager.infer_runner("relay")

    def _leave(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            # First: a call that does not come to its end fails.
            manager.stop()
            for crew in self._crews.values():
                crew.shutdown()

    def throughput(self, seconds: float, window: int) -> Flow:
        if (crew := self._crews.get(window)) is None:
            crew = self._crews[window] = ThreadPoolExecutor(window)
        # Each waits for all, so none does the work of two.
        together = threading.Barrier(window, timeout=_PATIENCE_S)

        def work() -> list[float]:
            together.wait()
            return self._calls(end)

        start = time.perf_counter()
        end = start + seconds
        calls = [crew.submit(work) for _ in range(window)]
        samples = [sample for each in calls for sample in each.result()]
        return Flow(len(samples), time.perf_counter() - start, samples)

    def _call(self) -> None:
        sent = self._tensors.next()
        with self._runner.infer(tensor=sent.array).get(_PATIENCE_S) as result:
            sent.check(result["tensor"])


class ThreadsMany(Threads):
    """Many requests in one call; a sample is that of a call, until all its answers are read."""

    name = "threads-many"

    def throughput(self, seconds: float, window: int) -> Flow:
        clock, samples = time.perf_counter, []
        begin = start = clock()
        while start - begin < seconds:
            sent = [self._tensors.next() for _ in range(window)]
            futures = self._runner.infer_many([{"tensor": tensor.array} for tensor in sent])
            for tensor, future in zip(sent, futures):
                with future.get(_PATIENCE_S) as result:
                    tensor.check(result["tensor"])
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return Flow(window * len(samples), start - begin, samples)

    def _call(self) -> None:
        sent = self._tensors.next()
        (future,) = self._runner.infer_many([{"tensor": sent.array}])
        with future.get(_PATIENCE_S) as result:
            sent.check(result["tensor"])
