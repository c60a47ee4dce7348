"""What GPUs lack for workers beside those of a run: the processes of the run are found by their titles, below a parent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.graph.plan import WorkerPlan
from pipeline.prepare import gpu_room
from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.memory import MemoryLimits
from pipeline.topology.numa import NumaNode
from pipeline.topology.nvml import GpuMemory
from tests.faults.load import until

MACHINE = Machine(Cpus((0,)), (NumaNode(0, (0,)),), MemoryLimits(), (Gpu("0000:3b:00.0", uuid="GPU-b"),))

SLEEPER = "import setproctitle, time; setproctitle.setproctitle('pipeline[pets] infer/0'); time.sleep(300)"


@pytest.fixture
def worker() -> Iterator[int]:
    """The pid of a process with a worker's title."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as process:
        until(lambda: "infer/0" in gpu_room._running(os.getpid(), "pets"))
        yield process.pid
        process.kill()


def beside(device: str = "cuda:0", parent: int = 0) -> str:
    workers = [WorkerPlan("infer", 0, device=device)]
    return gpu_room.shortage_beside(workers, MACHINE, "pets", parent or os.getpid(), at_once=True)


def test_what_a_worker_of_the_run_has_is_wanted_once_more_on_the_gpu_that_cuda_shows_first(
    worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (GpuMemory("GPU-a", 0, {}), GpuMemory("GPU-b", 1 << 30, {worker: 2 << 30}))
    monkeypatch.setattr(gpu_room, "read_memory", lambda: found)
    assert "cuda:0 has 1.0 GiB of memory free" in beside()
    assert beside("cpu") == ""
    # Of another run, below another parent.
    assert beside(parent=worker) == ""


def test_where_nvml_says_nothing_nothing_is_refused(worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_room, "read_memory", lambda: ())
    assert beside() == ""


def test_a_new_version_that_does_not_fit_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cli import run

    monkeypatch.setattr(run, "shortage_beside", lambda *_, at_once: "cuda:0 has 1 B" if at_once else "")
    plan: Any = SimpleNamespace(name="pets", processes=(), stages=())
    prepared: Any = SimpleNamespace(plan=plan, machine=MACHINE)
    assert run.short_beside([prepared], 1) == (
        "cuda:0 has 1 B: replace one stage at a time, which takes room for one worker: pipeline reload pets --stage STAGE; "
        "or stop the pipeline, and start it anew"
    )
