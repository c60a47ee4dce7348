"""Processes are killed: the others only wait a little longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.errors import StageCrashed, Unavailable
from pipeline.testing import RunningPipeline, running
from shm import leftovers
from shm.owner import Dead


def until(condition: Callable[[], object]) -> None:
    """Wait; if it never happens, the test's own timeout ends the wait."""
    while not condition():
        time.sleep(0.02)


def segments_of(pipeline: RunningPipeline) -> list[leftovers.Leftover]:
    return [found for found in leftovers.scan() if found.run == pipeline.run_dir.name]


def test_ps_says_what_every_process_is(folder: Any, children_of: Callable[[int], dict[str, psutil.Process]]) -> None:
    config = folder.config({"name": "first", "replicas": 2}, {"name": "second"}, name="shown")
    with running(config) as pipeline:
        assert sorted(children_of(pipeline.pid)) == [
            "pipeline[shown] first/0",
            "pipeline[shown] first/1",
            "pipeline[shown] scheduler",
            "pipeline[shown] second/0",
        ]
        assert psutil.Process(pipeline.worker_pids("second")[0]).cmdline()[0].startswith("pipeline[shown] second/0")
        assert pipeline.stop() == 0


def test_every_child_ends_when_the_supervisor_is_killed_and_the_next_start_clears_up(
    folder: Any, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    # One worker is in the middle of a computation, and reads no message.
    config = folder.config({"with": {"seconds": 60.0}}, {"replicas": 2})
    with running(config) as pipeline:
        children = list(children_of(pipeline.pid).values())
        assert len(children) == 4
        assert len(segments_of(pipeline)) >= 4
        with pipeline.client() as client:
            client.submit(data=b"x")
            until(lambda: client.status()["inside"] == 1)
            os.kill(pipeline.pid, signal.SIGKILL)
            assert psutil.wait_procs(children, timeout=200)[1] == []
        assert pipeline.wait() == -signal.SIGKILL
        # Another pipeline that starts on this machine may have removed them already, or do it just now: it has the lock.
        until(lambda: all(isinstance(segment.state, Dead) for segment in segments_of(pipeline)))
        assert pipeline.run_dir.is_dir()
        with running(folder.config({}, name="next")) as following:
            assert segments_of(pipeline) == []
            assert not pipeline.run_dir.exists()
            assert following.stop() == 0


def test_a_worker_killed_under_load_costs_no_request_and_no_answer_comes_twice(folder: Any) -> None:
    config = folder.config({"with": {"seconds": 0.005}, "replicas": 2, "batch": {"max_size": 4}}, {})
    count = 300
    with running(config) as pipeline, pipeline.client() as client:
        # A client is let in as soon as each stage has one worker.
        until(lambda: len(pipeline.worker_pids("s0")) == 2)
        before = pipeline.worker_pids("s0")
        answers = 0
        under_way: dict[int, Any] = {}
        sent = 0
        killed = False
        while sent < count or under_way:
            while sent < count and (draft := client.draft_nowait(data=(8,))) is not None:
                draft.inputs["data"][:] = memoryview(sent.to_bytes(8, "little"))
                under_way[sent] = draft.submit(flush=False)
                sent += 1
            client.pump(0.05)
            for number, future in list(under_way.items()):
                if future.done():
                    with future.get() as result:
                        assert int.from_bytes(result["data"].tobytes(), "little") == number
                    del under_way[number]
                    answers += 1
            if not killed and answers > count // 4:
                os.kill(before[0], signal.SIGKILL)
                killed = True
        assert killed
        assert answers == count
        assert client.outstanding == 0
        # A second answer to anything would come now.
        assert client.pump(0.3) == 0
        until(lambda: len(pipeline.worker_pids("s0")) == 2)
        after = pipeline.worker_pids("s0")
        assert before[0] not in after
        assert before[1] in after
        until(lambda: "s0/0" in pipeline.log())
        until(lambda: "SIGKILL" in pipeline.log())
        with client.submit(data=b"after").get() as result:
            assert result["data"].tobytes() == b"after"
        assert pipeline.stop() == 0


HOLDER = """\
import sys, time
from pathlib import Path
from pipeline.client import Client
from pipeline.errors import StageCrashed, Unavailable
client = Client.connect(Path(sys.argv[1]), name="holder")
drafts = [client.draft(data=(5,)) for _ in range(2)]
# Too large to be copied out of their slots.
results = [client.submit(data=bytes(5000)).get() for _ in range(2)]
print("holding", flush=True)
time.sleep(60)
"""


def test_a_client_that_is_killed_gives_back_every_slot_it_held(
    folder: Any, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    with running(folder.config({})) as pipeline:
        holder = started(pipeline.run_dir, command=[sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "holding\n"
        with pipeline.client() as client:

            def in_use() -> int:
                return sum(pool["slots"] - pool["free"] for pool in client.status()["pools"])

            assert {entry["name"] for entry in client.status()["clients"]} == {"holder", "test"}
            assert in_use() >= 3
            holder.kill()
            until(lambda: in_use() == 0)
            status = client.status()
            assert status["counts"]["client_deaths"] == 1
            assert [entry["name"] for entry in status["clients"]] == ["test"]
            with client.submit(data=b"x").get() as result:
                assert result["data"].tobytes() == b"x"
        assert pipeline.stop() == 0


def test_a_request_that_kills_every_worker_fails_alone(folder: Any) -> None:
    config = folder.config({"with": {"how": "segfault"}, "batch": {"max_size": 4, "max_delay_ms": 50}}, {})
    with running(config) as pipeline, pipeline.client() as client:
        futures = [client.submit(data=data, flush=False) for data in (b"a", b"poison", b"b")]
        client.flush()
        assert [future.wait(200) for future in futures] == [True] * 3
        assert isinstance(futures[1].error(), StageCrashed)
        for future, data in ((futures[0], b"a"), (futures[2], b"b")):
            with future.get() as result:
                assert result["data"].tobytes() == data
        assert pipeline.stop() == 0


def test_clients_of_a_pipeline_that_is_killed_are_told(folder: Any) -> None:
    with running(folder.config({"with": {"seconds": 60.0}})) as pipeline, pipeline.client() as client:
        future = client.submit(data=b"x")
        os.kill(pipeline.pid, signal.SIGKILL)
        assert pipeline.wait() == -signal.SIGKILL
        with pytest.raises(Unavailable):
            future.get(200)
        with pytest.raises(Unavailable):
            client.submit(data=b"x")
    # As the next start of a pipeline would, `running` has removed what was left.
    assert not pipeline.run_dir.exists()


def test_connecting_to_nothing_says_what_to_start(tmp_path: Path) -> None:
    for run in (None, "unknown", tmp_path / "gone"):
        with pytest.raises(Unavailable, match=r"running here .* pipeline run CONFIG --serve|no pipeline runs in"):
            Client.connect(run)
