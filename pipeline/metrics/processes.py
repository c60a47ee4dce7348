"""Processes: what those of a run use, as the kernel tells it when it is asked. It counts nothing itself.

The processes of a run are its supervisor and the supervisor's children. What they have started themselves does not
count. Where the run is in another PID namespace, as in another container, its pids mean nothing: then none is found.
"""

from __future__ import annotations

from typing import NamedTuple

import psutil

from pipeline.wire.status import PipelineStatus

__all__ = ["SUPERVISOR", "ProcessUsage", "processes_of", "usage_of"]

SUPERVISOR = "supervisor"
"""In place of a title: the supervisor is called as the user has called it."""


class ProcessUsage(NamedTuple):
    """One process."""

    title: str
    """"scheduler", "detect/0"."""
    cpu_s: float
    """Seconds, of its user's and the kernel's code."""
    resident_bytes: int
    threads: int
    started_s: float
    """Seconds since the epoch."""


def processes_of(status: PipelineStatus) -> list[ProcessUsage]:
    """What the processes of a run use; none if they cannot be seen from here.

    Args:
        status: of its scheduler.
    """
    name = f"pipeline[{status.pipeline}] "
    for stage in status.stages:
        for worker in stage.workers:
            try:
                process = psutil.Process(worker.pid)
                # In another namespace the pid is that of any process: the title tells whether it is the worker.
                if _title(process) != name + worker.process:
                    continue
                supervisor = psutil.Process(process.ppid())
            except psutil.Error:
                continue
            return _family(supervisor, name)
    return []


def usage_of(pid: int, title: str) -> ProcessUsage | None:
    """What one process of a run uses; None: the pid is not that process's, as in another PID namespace."""
    try:
        process = psutil.Process(pid)
        return _usage(process, title) if _title(process).endswith(f"] {title}") else None
    except psutil.Error:
        return None


def _family(supervisor: psutil.Process, name: str) -> list[ProcessUsage]:
    found = []
    try:
        found.append(_usage(supervisor, SUPERVISOR))
        children = supervisor.children()
    except psutil.Error:
        # It has ended meanwhile.
        return found
    for child in children:
        try:
            title = _title(child)
            if title.startswith(name):
                found.append(_usage(child, title.removeprefix(name)))
        except psutil.Error:
            continue
    return sorted(found)


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline()).rstrip()


def _usage(process: psutil.Process, title: str) -> ProcessUsage:
    with process.oneshot():
        times = process.cpu_times()
        return ProcessUsage(
            title, times.user + times.system, process.memory_info().rss, process.num_threads(), process.create_time()
        )
