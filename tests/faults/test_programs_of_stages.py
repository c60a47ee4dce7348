"""Programs that a stage has started end with its worker, even if no process is left to end them, and leave no zombies."""

from __future__ import annotations

import os
import shutil
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
from pipeline.testing import running
from tests.faults.load import until

STARTER = '''
import os
import subprocess
import time

import numpy as np

HOURS = ["sleep", "3600"]
ORPHAN = ["sh", "-c", "sleep 3600 >&2 & echo $!"]
KEPT = []


def start(data):
    time.sleep(0.05)
    how = bytes(data).decode()
    if how == "child":
        KEPT.append(subprocess.Popen(HOURS))
        pid = KEPT[-1].pid
    elif how == "session":
        KEPT.append(subprocess.Popen(HOURS, start_new_session=True))
        pid = KEPT[-1].pid
    elif how == "orphan":
        pid = int(subprocess.run(ORPHAN, stdout=subprocess.PIPE, check=True).stdout)
    elif how == "daemon":
        pid = int(subprocess.run(["setsid", *ORPHAN], stdout=subprocess.PIPE, check=True).stdout)
    elif how == "status":  # the exit status of a child, while orphans are collected
        pid = subprocess.run(["sh", "-c", "(sleep 0.01 &); sleep 0.02; exit 7"]).returncode
    elif how == "terminate":
        child = subprocess.Popen(HOURS)
        child.terminate()
        pid = child.wait(200)
    return np.array([pid, os.getpid()])
'''

EACH = ["child", "session", "orphan", "daemon"]


@pytest.fixture
def config(folder: Any) -> Path:
    (folder.path / "starter.py").write_text(STARTER)
    specs = {
        "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 1024}}],
        "outputs": [{"name": "pids", "dtype": "int64", "shape": [2]}],
    }
    path = folder.config(name="starter")
    text = path.read_text().replace("stages: []\n", "")
    path.write_text(text + "stages:\n  - {name: start, use: './starter.py:start', replicas: 2, with: " + repr(specs) + "}\n")
    return path


def ask(client: Client, how: str) -> tuple[int, int]:
    """The number in the answer, and the pid of the worker."""
    with client.submit(data=how.encode()).get(200) as result:
        pid, worker = result["pids"].tolist()
        return pid, worker


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_all(pipeline: Any) -> dict[int, dict[str, int]]:
    """Each worker starts a program of each kind: their pids."""
    started: dict[int, dict[str, int]] = {worker: {} for worker in pipeline.worker_pids("start")}
    with pipeline.client() as client:
        while any(len(found) < len(EACH) for found in started.values()):
            # Two requests at once, one for each worker.
            for how, future in [(how, client.submit(data=how.encode())) for how in EACH for _ in range(2)]:
                with future.get(200) as result:
                    pid, worker = result["pids"].tolist()
                if how in started[worker]:
                    os.kill(pid, signal.SIGKILL)
                else:
                    started[worker][how] = pid
    return started


def test_they_end_when_their_worker_is_killed_and_those_of_others_do_not(config: Path) -> None:
    with running(config) as pipeline:
        victim, spared = pipeline.worker_pids("start")
        pids = start_all(pipeline)
        started, others = pids[victim], pids[spared]
        os.kill(victim, signal.SIGKILL)
        until(lambda: all(is_gone(pid) for pid in started.values()))
        until(lambda: len({*pipeline.worker_pids("start")} - {victim}) == 2)
        assert [how for how, pid in others.items() if is_gone(pid)] == []
        assert pipeline.stop() == 0
        assert [how for how, pid in others.items() if not is_gone(pid)] == []


def test_they_end_with_a_supervisor_that_is_killed(config: Path) -> None:
    with running(config) as pipeline:
        pids = start_all(pipeline).values()
        os.kill(pipeline.pid, signal.SIGKILL)
        assert pipeline.wait() == -signal.SIGKILL
        # The programs in sessions of their own are out of reach then.
        until(lambda: all(is_gone(started[how]) for started in pids for how in ("child", "orphan")))
    for started in pids:
        for how in ("session", "daemon"):
            os.kill(started[how], signal.SIGKILL)
    subprocess.run([sys.executable, "-m", "pipeline", "shm", "gc"], check=True, capture_output=True)


def test_exit_statuses_reach_the_stage_that_started_the_programs_and_no_zombie_is_left(config: Path) -> None:
    with running(config) as pipeline, pipeline.client() as client:
        for _ in range(10):
            assert ask(client, "status")[0] == 7
        until(lambda: not [c for c in psutil.Process(pipeline.pid).children() if c.status() == psutil.STATUS_ZOMBIE])
        assert len(psutil.Process(pipeline.pid).children()) == 3


def test_sigterm_ends_them_as_usual(config: Path) -> None:
    with running(config) as pipeline, pipeline.client() as client:
        assert ask(client, "terminate")[0] == -signal.SIGTERM


def can_make_pid_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_make_pid_namespaces(), reason="needs the right to make a pid namespace (unshare --pid)")
def test_as_pid_1_it_collects_orphans_and_ends_by_sigterm(
    config: Path, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    process = started(
        "run", config, "--serve",
        command=["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "pipeline"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    run_dir = Path(process.stdout.readline().strip().partition(" in ")[2])
    (first,) = psutil.Process(process.pid).children()
    with Client.connect(run_dir) as client:
        for _ in range(5):
            assert ask(client, "status")[0] == 7
        until(lambda: not [c for c in first.children() if c.status() == psutil.STATUS_ZOMBIE])
        for how in EACH:
            ask(client, how)
    first.send_signal(signal.SIGTERM)
    assert process.wait(200) == 0
    assert not run_dir.exists()


def test_a_terminated_worker_goes_on(config: Path) -> None:
    # systemd and others send SIGTERM to every process of a run.
    with running(config) as pipeline, pipeline.client() as client:
        for worker in pipeline.worker_pids("start"):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(worker, number)
        time.sleep(0.1)
        assert ask(client, "status")[0] == 7
        assert client.status()["counts"].get("worker_deaths", 0) == 0
        assert [line.partition(" starter: ")[0] for line in pipeline.log().splitlines()] == ["info: starting", "info: ready"]
