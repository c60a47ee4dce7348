"""Processes that are killed in the middle of a reload and after it, and signals to the root of all versions."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.client.reloading import reload
from pipeline.errors import ReloadFailed, StageCrashed, Unavailable
from pipeline.interpreter import python_command
from pipeline.testing import RunningPipeline, running
from pipeline.wire.run_dir import remove_dead_runs, runs
from tests.faults.callers import Caller
from tests.faults.load import until
from tests.faults.versions import InBackground, Versions, killed, stamp, successor

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

# -- deaths -----------------------------------------------------------------------------------------


def test_the_new_scheduler_and_a_new_worker_are_killed_after_it_took_over(
    versions: Versions, callers: Callable[..., Caller], child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        reload("stamps")
        new = successor(pipeline)
        assert new is not None
        caller = callers(pipeline.run_dir, 4)
        until(lambda: caller.versions or caller.error)
        killed(new, "stamp/1", child_of)
        before = caller.sent
        until(lambda: caller.error or caller.sent > before + 32)
        assert set(caller.finish()) == {1}
        with pipeline.client() as client:
            killed(new, "scheduler", child_of)
            with suppress(Unavailable):
                stamp(client)
            client.reconnect(30)
            assert stamp(client) == 1
        versions.write(2)
        reload("stamps")
        with pipeline.client() as client:
            assert stamp(client) == 2


def test_the_old_scheduler_is_killed_while_it_drains(
    versions: Versions, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    with running(versions.write(0, seconds=3.0, replicas=1, drain_s=60)) as pipeline, pipeline.client() as client:
        versions.write(1)
        going = InBackground("stamps")
        until(lambda: "started" in going.steps)
        futures = [client.submit(number=[number]) for number in range(10)]
        until(lambda: "took over" in going.steps)
        killed(psutil.Process(pipeline.pid), "scheduler", child_of)
        unavailable = 0
        for future in futures:
            try:
                future.get(200)
            except (Unavailable, StageCrashed):
                unavailable += 1
        assert unavailable
        assert stamp(client) == 1
        assert isinstance(going.ended(), Path)


def test_the_command_is_killed_and_the_reload_goes_on(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup="        time.sleep(1)")
        command = subprocess.Popen(
            [*python_command("pipeline.__main__"), "reload", "stamps"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert command.stdout is not None
        assert command.stdout.readline().startswith(b"starting")
        command.kill()
        command.wait()
        command.stdout.close()
        until(lambda: runs("stamps") not in ([], [pipeline.run_dir]) and len(runs("stamps")) == 1)
        with pipeline.client() as client:
            assert stamp(client) == 1


# -- the root ---------------------------------------------------------------------------------------


def test_sigterm_while_the_new_version_starts_ends_both_and_leaves_nothing(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup="        time.sleep(3600)")
        going = InBackground("stamps")
        until(lambda: "started" in going.steps)
        until(lambda: runs("stamps") != [pipeline.run_dir])
        assert pipeline.stop() == 0
        assert isinstance(going.ended(), (ReloadFailed, Unavailable))
        assert runs("stamps") == []


# That all three mean the same is in test_stop_signals.py, without a reload.
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *[pytest.param(each, marks=pytest.mark.foreign) for each in (signal.SIGINT, signal.SIGHUP)]]
)
def test_a_signal_to_the_root_drains_the_version_that_serves(versions: Versions, number: signal.Signals) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, seconds=1.0)
        reload("stamps")
        with pipeline.client() as client:
            future = client.submit(number=[3])
            until(lambda: client.status()["inside"] == 1)
            os.killpg(pipeline.pid, number)
            assert list(future.get(200)["stamp"]) == [3, 1]
        assert pipeline.wait() == 0
        assert runs("stamps") == []


def test_sigterm_to_every_process_of_the_tree_is_one_signal_however_late_the_root_passes_it_on(
    versions: Versions,
) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, seconds=1.0)
        reload("stamps")
        root = psutil.Process(pipeline.pid)
        with pipeline.client() as client:
            future = client.submit(number=[3])
            until(lambda: client.status()["inside"] == 1)
            processes = [root, *root.children(recursive=True)]
            root.suspend()
            for process in processes:
                process.terminate()
            time.sleep(0.3)
            root.resume()
            assert list(future.get(200)["stamp"]) == [3, 1]
        assert pipeline.wait() == 0


def test_a_second_signal_to_the_root_stops_the_version_that_serves_at_once(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, seconds=3600.0, drain_s=3600.0)
        reload("stamps")
        with pipeline.client() as client:
            client.submit(number=[3])
            until(lambda: client.status()["inside"] == 1)
            os.kill(pipeline.pid, signal.SIGTERM)
            until(lambda: client.status()["reasons"].get("") == "stopping")
            until(lambda: pipeline.stop(0.2) == 1 if not _waits(pipeline) else False)


def _waits(pipeline: RunningPipeline) -> bool:
    """Send the signal once more; whether the pipeline still runs a moment later."""
    os.kill(pipeline.pid, signal.SIGTERM)
    try:
        pipeline.wait(0.5)
    except TimeoutError:
        return True
    return False


def test_the_root_killed_takes_every_version_with_it(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        reload("stamps")
        new = successor(pipeline)
        assert new is not None
        processes = [new, *new.children(recursive=True)]
        os.kill(pipeline.pid, signal.SIGKILL)
        assert psutil.wait_procs(processes, timeout=200)[1] == []
        pipeline.wait()
        assert len(remove_dead_runs()) == 2


def test_the_root_ends_with_the_version_that_serves(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        reload("stamps")
        new = successor(pipeline)
        assert new is not None
        new.kill()
        assert pipeline.wait() == 1
        until(lambda: "killed by signal 9" in pipeline.log())


def test_sigterm_to_the_supervisor_that_serves_drains_and_ends_the_root(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        folder = reload("stamps")
        # The pid that the name of its folder has.
        os.kill(int(folder.name.rpartition("-")[2]), signal.SIGTERM)
        assert pipeline.wait() == 0
