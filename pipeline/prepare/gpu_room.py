"""GPU room: what GPUs have left for workers beside those of a run (see `pipeline.graph.gpu_room`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from pipeline.graph.gpu_room import gpu_shortage
from pipeline.graph.plan import Plan, WorkerPlan
from pipeline.topology.machine import Machine
from pipeline.topology.nvml import read_memory

__all__ = ["shortage_beside", "workers_of"]


def workers_of(plan: Plan) -> list[WorkerPlan]:
    """The worker processes of a plan; those of several stages once."""
    return [worker for stages in plan.processes for worker in plan.stages[stages[0]].workers]


def shortage_beside(
    workers: Sequence[WorkerPlan], machine: Machine, pipeline: str, parent: int, *, at_once: bool
) -> str:
    """What the GPUs lack for `workers` beside those that run; empty: nothing that can be told.

    Args:
        workers: those to be started.
        machine: whose GPUs they are on.
        pipeline: its name.
        parent: the pid of the process below which the workers run.
        at_once: see `gpu_shortage`.
    """
    if all(worker.device == "cpu" for worker in workers):
        return ""
    by_uuid = {memory.uuid: memory for memory in read_memory()}
    gpus = {f"cuda:{at}": by_uuid[gpu.uuid] for at, gpu in enumerate(machine.gpus) if gpu.uuid in by_uuid}
    return gpu_shortage(workers, _running(parent, pipeline), gpus, at_once=at_once)


def _running(parent: int, pipeline: str) -> dict[str, list[int]]:
    """The pids of the processes of a pipeline below `parent`, by title."""
    import psutil  # a command that starts nothing beside a run has no use for it

    found: defaultdict[str, list[int]] = defaultdict(list)
    with suppress(psutil.Error):
        for child in psutil.Process(parent).children(recursive=True):
            with suppress(psutil.Error):
                whose, _, title = " ".join(child.cmdline()).rstrip().partition(" ")
                if whose == f"pipeline[{pipeline}]":
                    found[title].append(child.pid)
    return found
