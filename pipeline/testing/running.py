"""Running: a pipeline in processes of its own for the length of a `with` block.

It starts what a user starts, `pipeline run CONFIG --serve`, waits until it is ready, and leaves
nothing behind, however the block ends. It looks at the run from outside only: through a client, process
ids and the exit code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.client.client import Client
from pipeline.errors import StartError
from pipeline.repository.log import Kept
from pipeline.repository.run import StartedRun

__all__ = ["RunningPipeline", "running"]

#: Seconds to drain after a test that failed.
_GRACE_S = 5.0


class RunningPipeline:
    """A pipeline that serves. Made by `running`."""

    def __init__(self, run: StartedRun) -> None:
        self._run = run

    @property
    def run_dir(self) -> Path:
        """The run's folder, which `Client.connect` takes."""
        return self._run.run_dir

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._run.pid

    def client(self, name: str = "test") -> Client:
        """A new connected client; the caller closes it."""
        return Client.connect(self.run_dir, name=name)

    def status(self) -> dict[str, Any]:
        """The scheduler's view of the run, as `Client.status` gives it."""
        with self.client("status") as client:
            return client.status()

    def worker_pids(self, stage: str) -> list[int]:
        """Process ids of a stage's workers that are ready, by replica.

        Raises:
            KeyError: the pipeline has no such stage.
        """
        workers = {entry["name"]: entry["workers"] for entry in self.status()["stages"]}[stage]
        return [worker["pid"] for worker in sorted(workers, key=lambda worker: worker["replica"])]

    def log(self) -> str:
        """What the run has printed to stderr so far, its stages' own output included."""
        return self._run.log()

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        return self._run.wait(timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Drain the pipeline, as SIGTERM does, and return the exit code. If it has ended already: its exit code.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        return self._run.stop(timeout_s)


@contextmanager
def running(
    config: str | os.PathLike[str], assignments: Sequence[str] = (), *, timeout_s: float = 60.0
) -> Iterator[RunningPipeline]:
    """Serve the pipeline of a config while the block runs; it ends with this program, too, however that ends.

    Args:
        config: path of the YAML file.
        assignments: what `--set` takes: "inference.replicas=2".
        timeout_s: seconds to wait until it is ready, and again until it has drained at the end.

    Raises:
        StartError: the pipeline ended, or was not ready in time; the message has what it printed.
    """
    run = StartedRun(config, assignments, Kept())
    try:
        run.await_ready(timeout_s)
        pipeline = RunningPipeline(run)
        _wait_until_staffed(pipeline, timeout_s)
        yield pipeline
        pipeline.stop(timeout_s)
    finally:
        if run.alive:
            with suppress(TimeoutError):
                run.stop(_GRACE_S)
        run.end()


def _wait_until_staffed(pipeline: RunningPipeline, timeout_s: float) -> None:
    """Wait until the scheduler knows every worker: the supervisor, which prints the line, may hear of one sooner."""
    end = time.monotonic() + timeout_s
    while any(len(stage["workers"]) < stage["replicas"] for stage in pipeline.status()["stages"]):
        if time.monotonic() > end:
            raise StartError(f"the scheduler did not hear of every worker within {timeout_s:g} s")
        time.sleep(0.01)
