"""The processes of a run are found by the pid and the title of one of its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.metrics.processes import SUPERVISOR, processes_of, usage_of
from pipeline.wire.status import PipelineStatus, StageStatus, WorkerStatus

#: A child that is called as a worker of this pipeline would be, and stays until its stdin ends.
CHILD = """
import sys
import setproctitle
setproctitle.setproctitle(sys.argv[1])
print("there", flush=True)
sys.stdin.read()
"""


def child(title: str) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", CHILD, title], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path("/")
    )
    assert made.stdout is not None
    made.stdout.readline()
    return made


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """A worker, a scheduler, and a process of another pipeline."""
    made = [child(title) for title in ("pipeline[pets] infer/0", "pipeline[pets] scheduler", "pipeline[cars] infer/0")]
    yield made
    for one in made:
        one.communicate()


def status(*pids: int) -> PipelineStatus:
    workers = tuple(WorkerStatus(number, "infer/0", 0, pid, 0, 0, 0, 0) for number, pid in enumerate(pids))
    stage = StageStatus("infer", 1, 0, None, 0, 0, 0, {}, 0, None, workers, ())
    return PipelineStatus("pets", 1, True, {}, 0, {}, {}, (stage,), (), (), (), (), 10.0)


def test_the_supervisor_and_its_children_of_that_pipeline_are_found(children: list[subprocess.Popen[str]]) -> None:
    found = {usage.title: usage for usage in processes_of(status(children[0].pid))}
    assert list(found) == ["infer/0", "scheduler", SUPERVISOR]
    own = psutil.Process(os.getpid())
    assert found[SUPERVISOR].started_s == own.create_time()
    assert found["infer/0"].started_s == psutil.Process(children[0].pid).create_time()
    assert min(usage.resident_bytes for usage in found.values()) > 1_000_000
    assert min(usage.cpu_s for usage in found.values()) > 0
    assert min(usage.threads for usage in found.values()) >= 1


def test_a_pid_that_is_of_another_process_here_leads_to_none(children: list[subprocess.Popen[str]]) -> None:
    assert processes_of(status(children[2].pid)) == []
    assert processes_of(status(children[1].pid)) == []


def test_a_worker_that_has_just_died_is_no_hindrance(children: list[subprocess.Popen[str]]) -> None:
    gone = child("pipeline[pets] infer/0")
    gone.communicate()
    assert [usage.title for usage in processes_of(status(gone.pid, children[0].pid))] == ["infer/0", "scheduler", SUPERVISOR]


def test_what_one_process_uses_is_told_if_the_pid_is_that_process(children: list[subprocess.Popen[str]]) -> None:
    found = usage_of(children[0].pid, "infer/0")
    assert found is not None
    assert (found.title, found.threads) == ("infer/0", 1)
    assert usage_of(children[1].pid, "infer/0") is None
    gone = child("pipeline[pets] infer/0")
    gone.communicate()
    assert usage_of(gone.pid, "infer/0") is None
