"""A program with a manager is killed with -9, and so is the supervisor of a run that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import pipeline
from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.wire.run_dir import find_run, runs
from shm import leftovers
from tests.faults.load import until

MANAGER = """
import os, sys, time
import pipeline
manager = pipeline.InferenceManager(*sys.argv[2:])
runner = manager.infer_runner("faulty")
assert bytes(runner.infer(data=b"x").get(timeout=200)["data"]) == b"x"
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(120)
    os._exit(0)
under_way = [runner.infer(data=data) for data in (b"hold", b"y", b"y")]
server = manager.serve(0, grpc_port=0, metrics_port=0, block=False)
print("ready", server._process.pid, flush=True)
time.sleep(120)
"""

TEST_PROGRAM = """
import sys, time
from pipeline.testing import running
with running(sys.argv[1]) as pipeline:
    print("ready", flush=True)
    time.sleep(120)
"""

Started = Callable[..., "subprocess.Popen[Any]"]


def processes_of(run_dir: Path) -> list[psutil.Process]:
    supervisor = psutil.Process(int(run_dir.name.rpartition("-")[2]))
    return [supervisor, *supervisor.children(recursive=True)]


def assert_nothing_is_left(run_dirs: list[Path], processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, 20)[1] == []
    names = {folder.name for folder in run_dirs}
    assert names
    assert [folder for folder in run_dirs if folder.exists()] == []
    assert [found.name for found in leftovers.scan() if found.run in names] == []


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("fork", signal.SIGKILL),
        # What is left of all combinations ends in the same way: at the end of a pipe.
        *[
            pytest.param(how, number, marks=pytest.mark.foreign)
            for how in ("", "fork")
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
            if (how, number) != ("fork", signal.SIGKILL)
        ],
    ],
)
def test_all_that_a_killed_program_has_started_ends_and_leaves_nothing(
    folder: Any, started: Started, how: str, number: signal.Signals
) -> None:
    # A request is under way that a drain would wait for: in a C call that keeps the interpreter's lock of its worker.
    configs = [folder.config({"with.deadly": True}, drain_s=3600), folder.config({"replicas": 2}, {}, name="other")]
    program = started(how, *configs, command=[sys.executable, "-c", MANAGER], stdout=subprocess.PIPE)
    assert program.stdout is not None
    ready, keeper = program.stdout.readline().split()
    assert ready == b"ready"
    run_dirs = runs()
    assert len(run_dirs) == 2
    processes = [process for run_dir in run_dirs for process in processes_of(run_dir)]
    assert len(processes) == 2 + 2 * 1 + 4
    forked = psutil.Process(program.pid).children()
    forked = [child for child in forked if child not in processes and child.pid != int(keeper)]
    gateways = [psutil.Process(int(keeper)), *psutil.Process(int(keeper)).children()]
    assert len(gateways) == 2
    assert len(forked) == (1 if how else 0)
    with Client.connect("other") as client:
        program.send_signal(number)
        assert program.wait(200) == -number
        assert_nothing_is_left(run_dirs, [*processes, *gateways])
        with pytest.raises(Unavailable):
            client.submit(data=b"z").get(200)
    for child in forked:
        assert child.is_running(), "it has no part in this"
        child.kill()


RELOADS = """
import sys, time
import pipeline
manager = pipeline.InferenceManager(sys.argv[1])
runner = manager.infer_runner("faulty")
hold = runner.infer(data=b"hold")
while not manager.status()["faulty"]["pipeline"]["inside"]:
    time.sleep(0.01)
import threading
threading.Thread(target=manager.reload, args=("faulty", sys.argv[2]), daemon=True).start()
time.sleep(120)
"""


@pytest.mark.foreign
def test_all_versions_end_with_the_program_that_has_started_the_first(folder: Any, started: Started) -> None:
    # Both have a request under way that a drain would wait for.
    configs = [folder.config({"with.deadly": True}, drain_s=3600), folder.config({"with.deadly": True}, name="other", drain_s=3600)]
    program = started(*configs, command=[sys.executable, "-c", RELOADS])
    until(lambda: len(runs("faulty")) == 2 and (find_run("faulty") / "ready").exists())
    run_dirs = runs("faulty")
    until(lambda: "successor" in [path.name for folder in run_dirs for path in folder.iterdir()])
    processes = [process for run_dir in run_dirs for process in processes_of(run_dir)]
    with Client.connect("faulty") as client:
        client.submit(data=b"hold")
        until(lambda: client.status()["inside"] == 1)
        program.kill()
        assert program.wait() == -signal.SIGKILL
    assert_nothing_is_left(run_dirs, processes)


@pytest.mark.foreign
def test_a_run_that_is_still_starting_ends_with_its_program(folder: Any, started: Started) -> None:
    mark = folder.path / "reached"
    (folder.path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom deadly_stages import Work\n"
        f"class Slow(Work):\n    def setup(self, context):\n        Path({str(mark)!r}).touch(); time.sleep(3600)\n"
    )
    config = folder.config({"use": "./slow.py:Slow", "with": {}})
    program = started("", config, command=[sys.executable, "-c", MANAGER])
    until(mark.exists)
    run_dirs = runs()
    processes = processes_of(run_dirs[0])
    program.kill()
    assert_nothing_is_left(run_dirs, processes)


def test_a_run_that_is_still_planned_ends_with_its_program(folder: Any, started: Started) -> None:
    mark = folder.path / "reached"
    (folder.path / "slow.py").write_text(f"from pathlib import Path; Path({str(mark)!r}).touch()\nimport time; time.sleep(3600)")
    config = folder.config({"use": "./slow.py:Slow", "with": {}})
    program = started("", config, command=[sys.executable, "-c", MANAGER])
    until(mark.exists)
    processes = psutil.Process(program.pid).children(recursive=True)
    assert len(processes) == 2, "the supervisor, and the process that asks the stages"
    program.kill()
    assert psutil.wait_procs(processes, 20)[1] == []


@pytest.mark.foreign
def test_a_pipeline_of_a_killed_test_program_ends_too(folder: Any, started: Started) -> None:
    program = started(folder.config({}), command=[sys.executable, "-c", TEST_PROGRAM], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    run_dirs = runs()
    processes = processes_of(run_dirs[0])
    program.kill()
    assert_nothing_is_left(run_dirs, processes)


def test_if_a_supervisor_is_killed_calls_fail_the_manager_says_so_and_a_reload_starts_it_anew(folder: Any) -> None:
    configs = [folder.config({"with.seconds": 2.0}), folder.config({}, name="other")]
    with pipeline.InferenceManager(*configs) as manager:
        runner = manager.infer_runner("faulty")
        assert bytes(runner.infer(data=b"x").get(timeout=200)["data"]) == b"x"
        run_dir = find_run("faulty")
        processes = processes_of(run_dir)
        under_way = [runner.infer(data=b"y") for _ in range(4)]
        os.kill(manager.status()["faulty"]["pid"], signal.SIGKILL)
        for future in under_way:
            with pytest.raises(Unavailable):
                future.get(timeout=200)
        until(lambda: manager.status()["faulty"]["state"] == "died")
        why = manager.status()["faulty"]["why"]
        assert why == (
            "the run of 'faulty' has died (killed by signal 9 (SIGKILL)); manager.reload('faulty') starts it again"
        )
        with pytest.raises(Unavailable, match=r"the run of 'faulty' has died \(killed by signal 9"):
            runner.infer(data=b"x").get(timeout=200)
        # The others know nothing of it.
        assert manager.status()["other"]["state"] == "ready"
        assert bytes(manager.infer_runner("other").infer(data=b"x").get(timeout=200)["data"]) == b"x"
        assert manager.get_models() == ["faulty", "other"]
        manager.reload("faulty")
        assert_nothing_is_left([run_dir], processes)
        assert manager.status()["faulty"]["state"] == "ready"
        assert bytes(runner.infer(data=b"z").get(timeout=200)["data"]) == b"z"
    assert runs() == []


@pytest.mark.foreign
def test_a_manager_whose_run_has_died_stops_well_and_removes_what_that_has_left(folder: Any) -> None:
    with pipeline.InferenceManager(folder.config({})) as manager:
        run_dir = find_run("faulty")
        processes = processes_of(run_dir)
        os.kill(manager.status()["faulty"]["pid"], signal.SIGKILL)
    assert_nothing_is_left([run_dir], processes)
