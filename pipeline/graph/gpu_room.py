"""GPU room: whether the memory that is free on GPUs is enough for workers beside those that run already. Pure.

Nothing tells what a worker will take of a GPU before it has loaded its model. What its counterpart of the old
version takes now is the best that can be said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from pipeline.config.quantities import format_bytes
from pipeline.graph.plan import WorkerPlan
from pipeline.topology.nvml import GpuMemory

__all__ = ["gpu_shortage"]


def gpu_shortage(
    workers: Sequence[WorkerPlan],
    running: Mapping[str, Sequence[int]],
    gpus: Mapping[str, GpuMemory],
    *,
    at_once: bool,
) -> str:
    """What is missing, for a person; empty: nothing that can be told.

    Args:
        workers: those to be started beside the ones that run, one of each process.
        running: title of a worker process -> pids of those that run.
        gpus: device ("cuda:0") -> its memory now. Of one that is missing nothing is known.
        at_once: whether all of `workers` will live beside the old ones, as those of a new version; otherwise one after
            the other does, as those of a stage.
    """
    takes: defaultdict[str, list[int]] = defaultdict(list)
    for worker in workers:
        if worker.device in gpus and (bytes_ := _taken(worker, running, gpus.values())):
            takes[worker.device].append(bytes_)
    short = []
    for device, found in sorted(takes.items()):
        free, wanted = gpus[device].free_bytes, sum(found) if at_once else max(found)
        if free is not None and wanted > free:
            count = len(found) if at_once else 1
            who = "a new worker takes" if count == 1 else f"{count} new workers take"
            short.append(
                f"{device} has {format_bytes(free)} of memory free, and {who} about {format_bytes(wanted)} there "
                f"beside the old ones, by what those have now"
            )
    return "; ".join(short)


def _taken(worker: WorkerPlan, running: Mapping[str, Sequence[int]], gpus: Collection[GpuMemory]) -> int:
    """Bytes that the counterpart of a worker has on all GPUs; of a replica that is new, what the largest other one has;
    0: that is not known."""
    own = running.get(worker.title)
    alike = [own] if own else [pids for title, pids in running.items() if title.rpartition("/")[0] == worker.process]
    found = [sum(gpu.by_pid.get(pid, 0) for gpu in gpus) for pids in alike for pid in pids]
    return max(found, default=0)
