"""Outline: a plan in one line, for the log: what runs, in how many processes, and the sums of its memory. Pure."""

from __future__ import annotations

from pipeline.config.quantities import format_bytes
from pipeline.graph.plan import Plan, StagePlan

__all__ = ["outline_of"]

_NAMED = 12
"""Stages and pools that are named."""


def outline_of(plan: Plan) -> str:
    """For example "detect: resize x2, infer x1 on cuda:0; 3 workers in 3 processes; 9.6 MiB of shared memory:
    ingress 16 x 600.0 KiB; link zmq; /home/me/detect.yaml"."""
    workers = sum(len(stage.workers) for stage in plan.stages)
    processes = sum(len(plan.stages[stages[0]].workers) for stages in plan.processes)
    stages = _listed([_stage(stage) for stage in plan.stages])
    pools = _listed([f"{pool.name} {pool.slots} x {format_bytes(pool.slot_bytes)}" for pool in plan.pools])
    return (
        f"{plan.name}: {stages}; {_counted(workers, 'worker')} in {_counted(processes, 'process', 'es')}; "
        f"{format_bytes(plan.nbytes)} of shared memory: {pools}; link {plan.link}; {plan.config_path}"
    )


def _stage(stage: StagePlan) -> str:
    devices = sorted({worker.device for worker in stage.workers} - {"cpu"})
    return f"{stage.name} x{len(stage.workers)}" + (f" on {', '.join(devices)}" if devices else "")


def _listed(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join([*texts[:_NAMED], *([f"{more} more"] if more > 0 else ())])


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}"
