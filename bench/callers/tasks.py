"""Tasks: callers that are tasks of one asyncio loop.

    Tasks        `await AsyncInferRunner.infer`, in W tasks that share a runner
    TasksMany    `await AsyncInferRunner.infer_many` of W requests in one task, then the answers in order

Each is a `bench.measure.Subject`.
"""

from __future__ import annotations

import asyncio
import os
import time

import pipeline
from bench.callers.blocking import WINDOW
from bench.callers.tensors import Tensors
from bench.measure import Flow, Pids
from bench.relay import RelayRun, config_of
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.repository.aio import AsyncInferenceManager

__all__ = ["Tasks", "TasksMany"]


class Tasks:
    """A runner that tasks share. The loop runs only while something is measured."""

    name = "asyncio"
    _run: RelayRun | None = None
    _manager: AsyncInferenceManager | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _runner: AsyncInferRunner

    def setup(self, nbytes: int, window: int) -> None:
        """As `bench.measure.Subject.setup`."""
        self._tensors = Tensors(nbytes)
        self._run = RelayRun(config_of(nbytes, WINDOW))
        self._pids = self._run.pids()
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._connect(str(self._run.run_dir)))

    async def _connect(self, run_dir: str) -> None:
        self._manager = await pipeline.connect_async(run_dir)
        self._runner = self._manager.infer_runner("relay")
        await self._call()

    def latency(self, seconds: float) -> list[float]:
        """As `bench.measure.Subject.latency`."""
        return self._ready.run_until_complete(self._calls(time.perf_counter() + seconds))

    def throughput(self, seconds: float, window: int) -> Flow:
        """As `bench.measure.Subject.throughput`: `window` tasks."""
        return self._ready.run_until_complete(self._flow(seconds, window))

    def pids(self) -> Pids:
        """As `bench.measure.Subject.pids`."""
        return {"caller": [os.getpid()], **self._pids}

    def close(self) -> None:
        """As `bench.measure.Subject.close`."""
        loop, self._loop = self._loop, None
        if loop is not None:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            if self._manager is not None:
                loop.run_until_complete(self._manager.close())
            loop.close()
        run, self._run = self._run, None
        if run is not None:
            run.close()

    @property
    def _ready(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    async def _flow(self, seconds: float, window: int) -> Flow:
        start = time.perf_counter()
        each = await asyncio.gather(*[self._calls(start + seconds) for _ in range(window)])
        samples = [sample for calls in each for sample in calls]
        return Flow(len(samples), time.perf_counter() - start, samples)

    async def _calls(self, end: float) -> list[float]:
        """One call after the other until `end`, at least one; the microseconds of each."""
        clock, samples = time.perf_counter, []
        start = clock()
        while True:
            await self._call()
            now = clock()
            samples.append((now - start) * 1e6)
            if now >= end:
                return samples
            start = now

    async def _call(self) -> None:
        sent = self._tensors.next()
        with await self._runner.infer(tensor=sent.array) as result:
            sent.check(result["tensor"])


class TasksMany(Tasks):
    """Many requests in one call; a sample is that of a call, until all its answers are read."""

    name = "asyncio-many"

    async def _flow(self, seconds: float, window: int) -> Flow:
        clock, samples = time.perf_counter, []
        begin = start = clock()
        while start - begin < seconds:
            await self._call(window)
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return Flow(window * len(samples), start - begin, samples)

    async def _call(self, window: int = 1) -> None:
        sent = [self._tensors.next() for _ in range(window)]
        futures = await self._runner.infer_many([{"tensor": tensor.array} for tensor in sent])
        for tensor, future in zip(sent, futures):
            with await future as result:
                tensor.check(result["tensor"])
