"""The scheduler is killed: clients are told at once, and the pipeline is back without a restart by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.testing import RunningPipeline, running
from pipeline.wire.address import SCHEDULER
from pipeline.wire.run_dir import find_run, lock_path
from shm import leftovers
from shm.owner import Alive, probe
from tests.faults.load import Load, until

ChildOf = Callable[[int, str], psutil.Process | None]


def scheduler_of(pipeline: RunningPipeline, child_of: ChildOf) -> psutil.Process:
    scheduler = child_of(pipeline.pid, "scheduler")
    assert scheduler is not None
    return scheduler


def segments_of(pipeline: RunningPipeline) -> set[str]:
    return {found.name for found in leftovers.scan() if found.run == pipeline.run_dir.name}


def test_clients_hear_of_the_death_at_once_and_no_other_process_notices(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({"with.seconds": 0.2}, {"replicas": 2})) as pipeline, pipeline.client() as client:
        workers = [pipeline.worker_pids("s0"), pipeline.worker_pids("s1")]
        before = segments_of(pipeline)
        kept = client.submit(data=b"kept").get(200)
        future = client.submit(data=b"lost")
        scheduler_of(pipeline, child_of).kill()
        until(lambda: not isinstance(probe(lock_path(pipeline.run_dir, SCHEDULER)), Alive))
        free = time.monotonic()
        with pytest.raises(Unavailable, match="scheduler of pipeline faulty has died"):
            future.get(200)
        print(f"Unavailable {(time.monotonic() - free) * 1000:.0f} ms after the lock was seen free")
        client.reconnect(30)
        print(f"served again {(time.monotonic() - free) * 1000:.0f} ms after the lock was seen free")
        with client.submit(data=b"again").get(200) as result:
            assert result["data"].tobytes() == b"again"
        # An earlier answer lies in the old memory, and can still be read.
        assert kept["data"].tobytes() == b"kept"
        kept.release()
        assert [pipeline.worker_pids("s0"), pipeline.worker_pids("s1")] == workers
        # Only the flight records stay: they hold no slots of clients.
        after = segments_of(pipeline)
        assert len(after) == len(before)
        assert len(after & before) == 1
        assert client.status()["epoch"] == 1
        assert pipeline.stop() == 0


def test_nothing_is_lost_while_the_scheduler_is_killed_under_load(folder: Any, child_of: ChildOf) -> None:
    batches = {"batch": {"max_size": 4}, "with.seconds": 0.003}
    with running(folder.config(batches, {**batches, "replicas": 2})) as pipeline, pipeline.client() as client:
        load = Load(client)
        for _ in range(2):
            load.more(50)
            load.resent = 0
            load.kill(scheduler_of(pipeline, child_of))
            load.until(lambda: load.resent)
            load.more(50)
        load.finish()
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        until(lambda: pipeline.log().count("started again with empty slots") == 2)
        assert pipeline.stop() == 0


def test_a_client_that_was_waiting_for_a_slot_and_a_new_one_both_get_through(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({})) as pipeline, pipeline.client() as client:
        scheduler_of(pipeline, child_of).kill()
        with Client.connect(pipeline.run_dir, timeout_s=30) as other, other.submit(data=b"new").get(200) as result:
            assert result["data"].tobytes() == b"new"

        def asked() -> bool:
            try:
                return client.submit(data=b"old", timeout_s=0.2).get(200)["data"].tobytes() == b"old"
            except (Unavailable, TimeoutError):
                return False

        until(asked)
        assert pipeline.stop() == 0


def test_a_run_over_files_goes_on_and_answers_them_all(
    folder: Any, child_of: ChildOf, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    gate = folder.path / "gate"
    config = folder.config({"with.seconds": 0.01, "with.gate": str(gate)}, {})
    files = []
    contents = [*(b"%d" % number for number in range(150)), b"last"]
    for number, content in enumerate(contents):
        files.append(folder.path / f"{number:04}.bin")
        files[-1].write_bytes(content)
    output = folder.path / "out.jsonl"
    run = started("run", config, *files, "--output", output, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: output.exists() and output.read_text().count("\n") > 20)
    scheduler = child_of(run.pid, "scheduler")
    assert scheduler is not None
    scheduler.kill()
    gate.touch()
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors
    assert "the scheduler died" in errors
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["outputs"]["data"] for record in records] == [list(content) for content in contents]


def test_a_scheduler_that_keeps_dying_ends_the_run_with_a_message(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({})) as pipeline:
        seen: set[int] = set()
        while psutil.pid_exists(pipeline.pid) and len(seen) < 6:
            scheduler = child_of(pipeline.pid, "scheduler")
            if scheduler is not None and scheduler.pid not in seen:
                seen.add(scheduler.pid)
                os.kill(scheduler.pid, signal.SIGKILL)
            time.sleep(0.01)
        assert pipeline.wait() == 1
        until(lambda: "the scheduler died: killed by signal 9 (SIGKILL)" in pipeline.log())
        with pytest.raises(Unavailable):
            find_run("faulty")
