"""A run of this program: when it begins, and all the ways in which it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest

from pipeline.errors import StartError
from pipeline.repository.log import Forwarded, Kept
from pipeline.repository.run import StartedRun
from shm import leftovers

CONFIG = """
inputs: [{name: data, dtype: uint8, shape: [bytes], max: {bytes: 64}}]
stages: [{name: s0, use: "./echo.py:Echo"}]
"""
ECHO = """
from stages.spec import TensorSpec

class Echo:
    inputs = outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 64}),)

    def process(self, batch):
        for row, data in enumerate(batch.rows("data")):
            batch.out(row, "data", data.shape)[...] = data
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "echo.py").write_text(ECHO)
    path = tmp_path / "echo.yaml"
    path.write_text(CONFIG)
    return path


def children_of(run: StartedRun) -> list[psutil.Process]:
    return psutil.Process(run.pid).children(recursive=True)


def nothing_is_left(folder: Path, processes: list[psutil.Process]) -> bool:
    assert psutil.wait_procs(processes, 10)[1] == []
    return not folder.exists() and not [found for found in leftovers.scan() if found.run == folder.name]


def test_it_is_ready_stops_on_request_and_says_how_it_has_ended(config: Path) -> None:
    run = StartedRun(config, ["drain_s=2"], Kept())
    folder = run.await_ready(60)
    assert (folder, run.alive, run.how) == (run.run_dir, True, "it runs")
    assert folder.name == f"echo-{run.pid}"
    children = children_of(run)
    assert run.stop(30) == 0
    assert (run.alive, run.how) == (False, "exit code 0")
    assert run.stop() == 0, "again"
    run.end()
    run.end()
    starting, *others = run.log().splitlines()
    assert starting.startswith("info: starting echo: s0 x1; 1 worker in 1 process; ")
    assert others == [
        "info: ready", "note: draining: what is under way is finished, and no new request is taken", "info: stopping",
        "info: ended with exit code 0",
    ]  # fmt: skip
    assert nothing_is_left(folder, children)


def test_to_end_it_is_at_once_and_to_drop_it_is_the_same(config: Path, collector_is_off: None) -> None:
    for how in ("end", "drop"):
        run = StartedRun(config, [], Kept())
        folder = run.await_ready(60)
        children = children_of(run)
        if how == "end":
            run.end()
            assert "the program that has started this run is gone" in run.log()
            assert run.how == "exit code 1"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del run
        assert nothing_is_left(folder, children)


def test_a_start_that_fails_has_the_last_lines_and_leaves_nothing(config: Path) -> None:
    for log in (Kept(), Forwarded("echo")):
        run = StartedRun(config, ["stages=1"], log)
        with pytest.raises(StartError) as refused:
            run.await_ready(60)
        assert "did not start (exit code 2); it printed:\n" in str(refused.value)
        assert str(config) in str(refused.value)
        assert not run.alive


def test_a_start_that_takes_too_long_is_ended(config: Path) -> None:
    (config.parent / "echo.py").write_text("import time; time.sleep(3600)")
    run = StartedRun(config, [], Kept())
    with pytest.raises(StartError, match=r"not ready within 1 s"):
        run.await_ready(1.0)
    assert not run.alive


def test_a_supervisor_that_was_killed_leaves_nothing_once_its_run_is_ended(config: Path) -> None:
    run = StartedRun(config, [], Kept())
    folder = run.await_ready(60)
    children = children_of(run)
    with pytest.raises(TimeoutError, match=r"echo.yaml still runs after 0.1 s; it printed:"):
        run.wait(0.1)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait(30) == -signal.SIGKILL
    assert run.how == "killed by signal 9 (SIGKILL)"
    run.end()
    assert nothing_is_left(folder, children)


def test_ctrl_c_in_the_terminal_of_this_program_does_not_reach_it(config: Path) -> None:
    run = StartedRun(config, [], Kept())
    run.await_ready(60)
    assert os.getsid(run.pid) == run.pid
    run.end()


FORKS = """
import os, sys, warnings
from pipeline.repository.log import Kept
from pipeline.repository.run import StartedRun
warnings.simplefilter("error")
sys.unraisablehook = lambda args: os._exit(9)
run = StartedRun(sys.argv[1], [], Kept())
run.await_ready(60)
child = os.fork()
if child == 0:
    del run
    sys.exit(0)  # all of Python's way out
assert os.waitpid(child, 0)[1] == 0
assert run.alive
print(run.pid, flush=True)
if sys.argv[2] == "raise":
    raise RuntimeError("on purpose")
if sys.argv[2] == "fork":
    # It outlives its parent, and holds nothing.
    if os.fork() == 0:
        import time
        os.close(1), os.close(2)
        time.sleep(10)
        os._exit(0)
"""


@pytest.mark.parametrize("how", ["end", "raise", "fork"])
def test_it_ends_with_its_program_and_not_with_a_fork_of_it(config: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(config), how], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == (1 if how == "raise" else 0), done.stderr
    pid = int(done.stdout)
    assert not psutil.pid_exists(pid), "waited for at the exit"
    assert not list(Path(os.environ["TRTLAB_RUN_DIR"]).iterdir())
    for child in psutil.Process().children():
        child.kill()  # the fork, which has become ours


def test_the_descriptor_of_a_run_may_have_any_number(config: Path) -> None:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        run = StartedRun(config, [], Kept())
        run.await_ready(60)
        assert run.stop(30) == 0
        run.end()
    finally:
        for descriptor in held:
            os.close(descriptor)
    gc.collect()
