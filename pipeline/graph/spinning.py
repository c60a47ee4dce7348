"""Whether the processes of a run may look at their rings before they sleep (`pipeline.wire.spinning`). Pure.

A process that looks takes a core. If another process of the run waits for that core, what it looks for comes later.
So each process must have a core of its own: the scheduler, each process of workers, each camera's source, one client.
"""

from __future__ import annotations

from pipeline.graph.plan import Plan
from pipeline.topology.cpulist import format_cpu_list
from pipeline.topology.cpus import Cpus

__all__ = ["why_no_spinning"]

#: The scheduler, and a client: without one there is nothing to do.
_OTHERS = 2


def why_no_spinning(plan: Plan, cpus: Cpus) -> str:
    """Why the processes of this plan may not look before they sleep, on these CPUs; empty: they may."""
    workers = [worker for stages in plan.processes for worker in plan.stages[stages[0]].workers]
    processes = len(workers) + len(plan.cameras) + _OTHERS
    if processes > cpus.effective:
        return f"{processes} processes, the client's included, on {cpus.effective} CPUs"
    for bound in sorted({worker.cpus for worker in workers if worker.cpus}):
        # As tight as it may be: those that are bound within these CPUs.
        inside = sum(bool(worker.cpus) and set(worker.cpus) <= set(bound) for worker in workers)
        if inside > len(bound):
            count = f"{len(bound)} CPU{'s' * (len(bound) > 1)} ({format_cpu_list(bound)})"
            return f"{inside} processes are bound to {count}"
    return ""
