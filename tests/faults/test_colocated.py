"""Several stages in one process die together: nothing is lost, and only the guilty request is blamed."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import pytest

from pipeline.client.future import Future
from pipeline.errors import StageCrashed
from pipeline.testing import RunningPipeline, running
from tests.faults.load import Load, until

BATCHES = {"batch": {"max_size": 4, "max_delay_ms": 1}, "with.seconds": 0.002}
SHARED = {"colocate": True}


def data_of(future: Future) -> bytes:
    with future.get(200) as result:
        return bytes(result["data"].tobytes())


def ready_again(pipeline: RunningPipeline, dead: int, replicas: int) -> bool:
    stage_workers = [pipeline.worker_pids(stage) for stage in ("s0", "s1", "s2")]
    return all(len(crew) == replicas and dead not in crew for crew in stage_workers)


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.foreign), 2])
def test_no_request_is_lost_while_a_process_with_three_stages_is_killed_under_load(folder: Any, replicas: int) -> None:
    config = folder.config({**BATCHES, "replicas": replicas}, {**BATCHES, **SHARED}, {**BATCHES, **SHARED})
    with running(config) as pipeline, pipeline.client() as client:
        load = Load(client)
        for _ in range(4):
            load.more(50)
            victim = pipeline.worker_pids("s1")[0]
            os.kill(victim, signal.SIGKILL)
            load.until(partial(ready_again, pipeline, victim, replicas))
        load.finish()
        status = client.status()
        # Each of its three workers has died.
        assert status["counts"]["worker_deaths"] == 4 * 3
        assert status["counts"]["answered"] == load.sent
        assert status["inside"] == 0
        until(lambda: pipeline.log().count("s0+s1+s2/0 died (killed by signal 9 (SIGKILL)") == 4)
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        assert pipeline.stop() == 0


def test_the_limit_of_a_stage_holds_for_its_batches_alone(folder: Any) -> None:
    config = folder.config(
        {"with.seconds": 0.5, "batch": {"max_size": 4, "max_delay_ms": 50}},
        {"with.deadly": True, "batch": {"max_size": 4, "max_delay_ms": 100}, "timeout_ms": 250, **SHARED},
    )
    with running(config) as pipeline, pipeline.client() as client:
        # The first stage takes twice as long, which its own limit allows.
        assert data_of(client.submit(data=b"slow")) == b"slow"
        assert "worker_deaths" not in client.status()["counts"]
        futures = [client.submit(data=data, flush=False) for data in (b"a", b"sleep", b"b")]
        client.flush()
        for future, data in zip(futures, (b"a", b"sleep", b"b")):
            assert future.wait(200)
            if data == b"sleep":
                assert isinstance(future.error(), StageCrashed)
                assert "stage s1: killed, since it had been computing one batch of s1 for" in str(future.error())
            else:
                assert data_of(future) == data
        until(lambda: "s0+s1/0 has been computing one batch of s1 for" in pipeline.log())
        assert client.status()["reasons"] == {}
        assert pipeline.stop() == 0


@pytest.mark.parametrize(
    ("guilty", "deed"),
    [(1, b"kill"), *[pytest.param(each, b"segfault", marks=pytest.mark.foreign) for each in (0, 2)]],
)
def test_a_deadly_request_fails_alone_in_each_stage_of_the_process_that_it_kills(
    folder: Any, guilty: int, deed: bytes
) -> None:
    stages: list[dict[str, Any]] = [{"batch": {"max_size": 8, "max_delay_ms": 50}} for _ in range(3)]
    stages[guilty]["with.deadly"] = True
    config = folder.config(stages[0], *({**stage, **SHARED} for stage in stages[1:]))
    with running(config) as pipeline, pipeline.client() as client:
        data = [b"innocent %d" % number for number in range(8)]
        data[4] = deed
        futures = [client.submit(data=each, flush=False) for each in data]
        client.flush()
        for each, future in zip(data, futures):
            assert future.wait(200)
            if each == deed:
                error = future.error()
                assert isinstance(error, StageCrashed)
                assert str(error).startswith(f"stage s{guilty}: ")
            else:
                assert data_of(future) == each
        # As many as if each stage had a process: three halvings, and two crashes, or three if their cause is uncertain.
        deaths = client.status()["counts"]["worker_deaths"] / 3
        assert deaths <= 1 + 3 + 1 + (deed == b"kill")
        # No process dies again in that run.
        for first in range(0, 24, 8):
            later = [b"later %d" % number for number in range(first, first + 8)]  # a full batch, which waits for nothing
            assert [data_of(future) for future in [client.submit(data=each) for each in later]] == later
        assert client.status()["counts"]["worker_deaths"] / 3 == deaths
        assert pipeline.stop() == 0


def test_a_request_that_is_deadly_every_time_breaks_no_stage_that_works(folder: Any) -> None:
    config = folder.config({"restart": {"max": 2}}, {"with.deadly": True, **SHARED})
    with running(config) as pipeline, pipeline.client() as client:
        for number in range(4):
            deadly = client.submit(data=b"exit")
            assert deadly.wait(200)
            assert isinstance(deadly.error(), StageCrashed)
            assert data_of(client.submit(data=b"%d" % number)) == b"%d" % number
        assert client.status()["reasons"] == {}
        assert pipeline.stop() == 0
