"""Relay: the pipeline itself as a subject: client -> scheduler -> a -> b -> c -> scheduler -> client.

Three stages that touch nothing run in `pipeline run --serve` with an ordinary config, and requests come
through the client that applications use. Nothing in it is made for the benchmark.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np

from bench.floors.slots import TornTensor
from bench.measure import Flow, SubjectDied
from pipeline.client.client import Client
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.errors import Unavailable
from shm.layout import ceil_div

__all__ = ["PipelineRelay"]

_START_S = 30.0

_CONFIG = """\
name: relay
inputs:
  - {{name: tensor, dtype: uint8, shape: [{nbytes}]}}
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


class PipelineRelay:
    """A `bench.measure.Subject`.

    Args:
        colocate: whether the three stages share a process.
    """

    def __init__(self, *, colocate: bool = False) -> None:
        self.name = "colocated" if colocate else "pipeline"
        self._colocate = "true" if colocate else "false"
        self._process: subprocess.Popen[str] | None = None
        self._client: Client | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def setup(self, nbytes: int, window: int) -> None:
        """Start the pipeline, with slots for `window` requests and the quarter that a single client may not have."""
        self._folder = tempfile.TemporaryDirectory(prefix="trtlab-bench-")
        config = Path(self._folder.name) / "relay.yaml"
        slots = ceil_div(window * 4, 3) + 1
        text = _CONFIG.format(
            nbytes=nbytes, slots=slots, batch=min(window, 64), credits=window, colocate=self._colocate
        )
        config.write_text(text)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(config), "--serve"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TRTLAB_RUN_DIR": self._folder.name},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("serving"):
            raise SubjectDied(f"the pipeline did not start: {line!r}")
        self._client = Client.connect(line.rsplit(" ", 1)[1].strip(), name="bench", timeout_s=_START_S)
        self._pids = self._pids_of_run()
        self._shape = (nbytes,)
        self._source = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
        self._seq = 0
        # Take all the slots that the windows need before measuring starts.
        drafts = [self._ready().draft(timeout_s=_START_S, tensor=self._shape) for _ in range(window)]
        for draft in drafts:
            draft.discard()
        self._check(self._send(self._ready().draft(tensor=self._shape)))

    def latency(self, seconds: float) -> list[float]:
        samples: list[float] = []
        clock = time.perf_counter
        client, shape = self._ready(), self._shape
        end = clock() + seconds
        start = clock()
        while start < end:
            self._check(self._send(client.draft(tensor=shape)))
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return samples

    def throughput(self, seconds: float, window: int) -> Flow:
        client, shape, clock = self._ready(), self._shape, time.perf_counter
        flying: deque[tuple[Future, int]] = deque()
        requests = 0
        # As the floors do: at least half a window in one message.
        most = max(8, window // 2)
        start = clock()
        end = start + seconds
        while True:
            kept_back = 0
            while len(flying) < window and clock() < end:
                draft = client.draft_nowait(tensor=shape)
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

    def pids(self) -> list[int]:
        return [os.getpid(), *self._pids]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            finally:
                self._process.kill()
                self._process.wait()
                assert self._process.stdout is not None
                self._process.stdout.close()
                self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _send(self, draft: Draft, flush: bool = True) -> tuple[Future, int]:
        self._seq = seq = self._seq + 1
        tensor = draft.inputs["tensor"]
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

    def _pids_of_run(self) -> list[int]:
        assert self._process is not None
        mine = str(self._process.pid)
        children = Path(f"/proc/{mine}/task/{mine}/children").read_text().split()
        return [self._process.pid, *map(int, children)]
