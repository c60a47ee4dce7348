"""Processes: what each process of a run uses: CPU time, memory, threads. `pipeline ps` and `pipeline top` ask."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil

from pipeline.metrics.processes import SUPERVISOR

__all__ = ["ProcessUse", "uses_of"]

class ProcessUse(NamedTuple):
    """What one process has used."""

    title: str
    """As `pipeline status` calls it ("detect/1", "scheduler"), or its program's name, if a stage has started it."""
    pid: int
    started: float
    """When it started, Unix seconds: tells it from a later process with this pid."""
    cpu_s: float
    """Seconds of CPU, since its start."""
    memory: int
    """Bytes of memory: its own, and its share of what it has in common with other processes (PSS); where the kernel
    does not tell that, all that it has in memory (RSS)."""
    threads: int


def uses_of(supervisor: int, apart: Collection[int] = ()) -> list[ProcessUse]:
    """The processes of a run, the supervisor first, then those that it and its children have started.

    Args:
        supervisor: its pid.
        apart: pids of other runs' supervisors: a new version's is a child of the first one's, and a run of its own.
    """
    return list(_uses(supervisor, set(apart) - {supervisor}))


def _uses(supervisor: int, apart: set[int]) -> Iterator[ProcessUse]:
    waiting = [supervisor]
    while waiting:
        pid = waiting.pop(0)
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            # Nothing that may fail stands between these two: a process that has ended has no children either.
            waiting += [child.pid for child in process.children() if child.pid not in apart]
            yield _use(process, is_supervisor=pid == supervisor)


def _use(process: psutil.Process, *, is_supervisor: bool) -> ProcessUse:
    with process.oneshot():
        times = process.cpu_times()
        return ProcessUse(
            title=SUPERVISOR if is_supervisor else _title(process),
            pid=process.pid,
            started=process.create_time(),
            cpu_s=times.user + times.system,
            memory=_memory(process),
            threads=process.num_threads(),
        )


def _title(process: psutil.Process) -> str:
    """`pipeline[detect] resize/0` is shown as resize/0."""
    line = " ".join(process.cmdline()).strip()
    if line.startswith("pipeline[") and "] " in line:
        return line.partition("] ")[2]
    return process.name()


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.AccessDenied, OSError):
        if os.path.exists(f"/proc/{process.pid}/smaps_rollup"):
            return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)
