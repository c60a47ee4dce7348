"""Relay: the pipeline itself as a subject: client -> scheduler -> a -> b -> c -> scheduler -> client.

Three stages that touch nothing run in `pipeline run --serve` with an ordinary config, and requests come
through the client that applications use. Nothing in it is made for the benchmark.

`RelayRun` is that pipeline alone, for other subjects that have it relay their tensors (`bench.callers`).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.floors.slots import TornTensor
from bench.measure import Flow, SubjectDied
from pipeline.client.client import Client
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.errors import StartError, Unavailable
from pipeline.testing import RunningPipeline, running
from shm.layout import ceil_div

__all__ = ["STAGES", "PipelineRelay", "RelayRun", "config_of"]

_START_S = 30.0

STAGES = ("a", "b", "c")
"""The stages of the relay, each `stages.relay.Relay`."""

_CONFIG = """\
name: relay
inputs:
  - {{name: tensor, dtype: uint8, shape: [{nbytes}]}}
link: {link}
ingress: {{slots: {slots}}}
stages:
  - &stage
    name: a
    use: stages.relay:Relay
    with: {{shape: [{nbytes}]}}
    batch: {{max_size: {batch}}}
    credits: {credits}
  - {{<<: *stage, name: b, colocate: {colocate}}}
  - {{<<: *stage, name: c, colocate: {colocate}}}
"""


def config_of(nbytes: int, window: int, *, colocate: bool = False, link: str = "zmq") -> str:
    """The YAML of the relay.

    Args:
        nbytes: of a tensor.
        window: how many requests one client may have in its slots.
        colocate: whether the three stages share a process.
        link: what carries the messages: "zmq" or "ring".
    """
    # A quarter of the slots is out of reach of a single client.
    slots = ceil_div(window * 4, 3) + 1
    return _CONFIG.format(
        nbytes=nbytes,
        slots=slots,
        batch=min(window, 64),
        credits=window,
        colocate=str(colocate).lower(),
        link=link,
    )


class RelayRun:
    """The pipeline of a relay, in processes of its own.

    Args:
        text: of its config, such as `config_of` gives; its stages are those of STAGES.

    Raises:
        SubjectDied: it does not start.
    """

    def __init__(self, text: str) -> None:
        self._stack = ExitStack()
        try:
            config = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="trtlab-bench-"))) / "relay.yaml"
            config.write_text(text)
            self._pipeline: RunningPipeline = self._stack.enter_context(running(config, timeout_s=_START_S))
        except StartError as error:
            self.close()
            raise SubjectDied(str(error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def run_dir(self) -> Path:
        """The run's folder, which clients connect to."""
        return self._pipeline.run_dir

    def pids(self) -> dict[str, list[int]]:
        """Its processes: the supervisor, the scheduler, the workers."""
        children = {child.pid for child in psutil.Process(self._pipeline.pid).children()}
        workers = {pid for stage in STAGES for pid in self._pipeline.worker_pids(stage)}
        return {
            "scheduler": sorted(children - workers), "workers": sorted(workers), "supervisor": [self._pipeline.pid]
        }  # fmt: skip

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._stack.close()


class PipelineRelay:
    """A `bench.measure.Subject`.

    Args:
        colocate: whether the three stages share a process.
        link: what carries the messages: "zmq" or "ring".
    """

    def __init__(self, *, colocate: bool = False, link: str = "zmq") -> None:
        self.name = ("colocated" if colocate else "pipeline") + ("" if link == "zmq" else f"-{link}")
        self._colocate = colocate
        self._link = link
        self._input = "tensor"
        self._run: RelayRun | None = None
        self._client: Client | None = None

    def setup(self, nbytes: int, window: int) -> None:
        """Start the pipeline, with slots for `window` requests."""
        self._run = self._start(nbytes, window)
        self._client = Client.connect(self._run.run_dir, name="bench", timeout_s=_START_S)
        self._pids = self._run.pids()
        self._shapes: dict[str, Any] = {self._input: (nbytes,)}
        self._source = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
        self._seq = 0
        # Take all the slots that the windows need before measuring starts.
        drafts = [self._ready().draft(timeout_s=_START_S, **self._shapes) for _ in range(window)]
        for draft in drafts:
            draft.discard()
        self._check(self._send(self._ready().draft(**self._shapes)))

    def latency(self, seconds: float) -> list[float]:
        samples: list[float] = []
        clock = time.perf_counter
        client, shapes = self._ready(), self._shapes
        end = clock() + seconds
        start = clock()
        while start < end:
            self._check(self._send(client.draft(**shapes)))
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return samples

    def throughput(self, seconds: float, window: int) -> Flow:
        client, shapes, clock = self._ready(), self._shapes, time.perf_counter
        flying: deque[tuple[Future, int]] = deque()
        requests = 0
        # As the floors do: at least half a window in one message.
        most = max(8, window // 2)
        start = clock()
        end = start + seconds
        while True:
            kept_back = 0
            while len(flying) < window and clock() < end:
                draft = client.draft_nowait(**shapes)
                if draft is None:
                    break
                flying.append(self._send(draft, flush=False))
                kept_back += 1
                if kept_back == most:
                    client.flush()
                    kept_back = 0
            if not flying:
                return Flow(requests, clock() - start)
            try:
                client.pump(10.0)
            except Unavailable as error:
                raise SubjectDied(str(error)) from error
            while flying and flying[0][0].done():
                self._check(flying.popleft())
                requests += 1

    def burst(self, size: int) -> None:
        """Send so many requests in as few messages as the client makes of them, and wait for all answers."""
        client, shapes = self._ready(), self._shapes
        flying = [self._send(client.draft(**shapes), flush=False) for _ in range(size)]
        client.flush()
        for each in flying:
            self._check(each)

    def pids(self) -> dict[str, list[int]]:
        return {"caller": [os.getpid()], **self._pids}

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._run is not None:
            self._run.close()
            self._run = None

    def _start(self, nbytes: int, window: int) -> RelayRun:
        return RelayRun(config_of(nbytes, window, colocate=self._colocate, link=self._link))

    def _send(self, draft: Draft, flush: bool = True) -> tuple[Future, int]:
        self._seq = seq = self._seq + 1
        tensor = draft.inputs[self._input]
        np.copyto(tensor, self._source)
        words = tensor.view(np.uint64)
        words[0] = seq
        words[-1] = ~np.uint64(seq)
        return draft.submit(flush=flush), seq

    def _check(self, sent: tuple[Future, int]) -> None:
        future, seq = sent
        with future.get(15.0) as result:
            words = result["tensor"].view(np.uint64)
            if words[0] != seq or words[-1] != ~np.uint64(seq):
                raise TornTensor(f"request {seq} came back as {words[0]} and {~words[-1]}")

    def _ready(self) -> Client:
        if self._client is None:
            raise RuntimeError("the pipeline is not set up: call setup() first")
        return self._client
