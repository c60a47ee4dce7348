"""A worker is killed, at any time: clients only wait a little longer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from pipeline.testing import RunningPipeline, running
from tests.faults.load import Load, until

ChildOf = Callable[[int, str], psutil.Process | None]


def ready_again(pipeline: RunningPipeline, stage: str, dead: int, replicas: int) -> bool:
    pids = pipeline.worker_pids(stage)
    return len(pids) == replicas and dead not in pids


def test_no_request_is_lost_while_workers_of_every_stage_are_killed_under_load(folder: Any) -> None:
    batches = {"batch": {"max_size": 4, "max_delay_ms": 1}, "with.seconds": 0.002}
    replicas = {"s0": 1, "s1": 2, "s2": 1}
    config = folder.config(batches, {**batches, "replicas": 2}, batches)
    with running(config) as pipeline, pipeline.client() as client:
        load = Load(client)
        for stage in ("s0", "s1", "s2", "s1"):
            load.more(50)
            victim = pipeline.worker_pids(stage)[0]
            os.kill(victim, signal.SIGKILL)
            load.until(partial(ready_again, pipeline, stage, victim, replicas[stage]))
        load.finish()
        status = client.status()
        assert status["counts"]["worker_deaths"] == 4
        assert status["counts"]["answered"] == load.sent
        assert status["inside"] == 0
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        assert pipeline.stop() == 0


def test_a_whole_stage_killed_at_once_holds_requests_back_until_it_is_there_again(folder: Any) -> None:
    with running(folder.config({"replicas": 2, "with.seconds": 0.002}, {})) as pipeline, pipeline.client() as client:
        load = Load(client)
        load.more(20)
        for pid in pipeline.worker_pids("s0"):
            os.kill(pid, signal.SIGKILL)
        load.more(50)
        load.finish()
        assert pipeline.stop() == 0


def test_a_worker_killed_while_idle_and_again_while_it_starts_is_replaced(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({"with.setup_s": 0.3})) as pipeline, pipeline.client() as client:
        (first,) = pipeline.worker_pids("s0")
        os.kill(first, signal.SIGKILL)
        # Requests that come while there is no worker wait for the next one.
        future = client.submit(data=b"patient")

        def starting() -> psutil.Process | None:
            child = child_of(pipeline.pid, "s0/0")
            return child if child is not None and child.pid != first else None

        until(starting)
        second = starting()
        assert second is not None
        second.kill()
        with future.get(200) as result:
            assert result["data"].tobytes() == b"patient"
        assert not {first, second.pid} & set(pipeline.worker_pids("s0"))
        until(lambda: pipeline.log().count("s0/0 died (killed by signal 9 (SIGKILL)") == 2)
        assert pipeline.stop() == 0
