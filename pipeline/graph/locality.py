"""Locality: which CPUs a pool's pages should first be touched from. Pure.

A page lies on the NUMA node of the CPU that touched it first, so a pool is touched from CPUs near its readers:
otherwise every read would go over the socket link. A GPU counts before the rest. The supervisor touches all pools
before any worker starts.
"""

from __future__ import annotations

from pipeline.graph.plan import CUDA, Plan, StagePlan, producer_of

__all__ = ["near_cpus", "near_node"]


def near_node(plan: Plan, pool: str) -> int | None:
    """The NUMA node that a pool should be on; None if its readers are on several, or anywhere."""
    nodes = {worker.numa_node for stage in _readers(plan, pool) for worker in stage.workers}
    return nodes.pop() if len(nodes) == 1 else None


def near_cpus(plan: Plan, pool: str) -> tuple[int, ...]:
    """CPUs of that node that its readers run on; empty if it does not matter which CPU touches it."""
    if near_node(plan, pool) is None:
        return ()
    return tuple(sorted({cpu for stage in _readers(plan, pool) for worker in stage.workers for cpu in worker.cpus}))


def _readers(plan: Plan, pool: str) -> list[StagePlan]:
    """The stages that read a pool; of those only the ones on a GPU if there are any."""
    producer = producer_of(pool)
    readers = [stage for stage in plan.stages if any(edge.producer == producer for edge in stage.edges)]
    on_gpu = [stage for stage in readers if any(worker.device.startswith(CUDA) for worker in stage.workers)]
    return on_gpu or readers
