"""A process that a debugger or a frozen cgroup stops for a while goes on, and nothing is lost or computed wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from pipeline.testing import running
from tests.faults.load import Load


def test_each_process_can_be_stopped_under_load_and_goes_on(
    folder: Any, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    batches = {"batch": {"max_size": 4}, "with.seconds": 0.002}
    with running(folder.config(batches, {**batches, "replicas": 2})) as pipeline, pipeline.client() as client:
        load = Load(client)
        for role in ("scheduler", "s0/0", "s1/1", "supervisor"):
            load.more(30)
            child = None if role == "supervisor" else child_of(pipeline.pid, role)
            pid = pipeline.pid if child is None else child.pid
            os.kill(pid, signal.SIGSTOP)
            end = time.monotonic() + 0.4
            load.until(lambda: time.monotonic() > end)  # noqa: B023
            os.kill(pid, signal.SIGCONT)
        load.more(30)
        load.finish()
        counts = client.status()["counts"]
        assert "worker_deaths" not in counts
        assert "client_deaths" not in counts
        assert pipeline.stop() == 0


def test_a_worker_stopped_in_the_middle_of_a_batch_is_killed_at_its_time_limit(folder: Any) -> None:
    stage = {"timeout_ms": 200, "with.seconds": 0.05, "replicas": 2}
    with running(folder.config(stage)) as pipeline, pipeline.client() as client:
        load = Load(client)
        load.more(20)
        victim = pipeline.worker_pids("s0")[0]
        os.kill(victim, signal.SIGSTOP)
        load.until(lambda: "has been computing one batch for" in pipeline.log())
        load.until(lambda: len(pids := pipeline.worker_pids("s0")) == 2 and victim not in pids)
        load.finish()
        assert pipeline.stop() == 0
