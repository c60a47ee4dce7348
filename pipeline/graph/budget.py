"""Budget: what the pools take, against everything that can refuse it. Pure.

A mapping that is larger than what stands behind it fails at the first touch, with SIGBUS or the OOM
killer, minutes later. So the sum is made before anything starts.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config.quantities import format_bytes
from pipeline.errors import StartError
from pipeline.graph.plan import INGRESS, Plan
from pipeline.topology.memory import MemoryLimits
from shm.layout import SegmentLayout

__all__ = ["Budget", "BudgetLimit", "BudgetLine", "make_budget"]


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One pool."""

    pool: str
    slots: int
    slot_bytes: int
    nbytes: int
    """Of its segment: slots, header, and the rest of the last page."""


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """One thing that could refuse it."""

    name: str
    needed: int
    allowed: int
    remedy: str
    """What gives more of it; completes "or ..."."""

    @property
    def holds(self) -> bool:
        """True where it is enough."""
        return self.needed <= self.allowed


@dataclass(frozen=True, slots=True)
class Budget:
    """The sums of a plan on a machine."""

    lines: tuple[BudgetLine, ...]
    limits: tuple[BudgetLimit, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(line.nbytes for line in self.lines)

    def refuse(self) -> None:
        """Say what does not fit.

        Raises:
            StartError: with the sums, what there is, and what to change.
        """
        broken = [limit for limit in self.limits if not limit.holds]
        if not broken:
            return
        largest = max(self.lines, key=lambda line: line.nbytes)
        message = [f"the pipeline's shared memory of {format_bytes(self.nbytes)} does not fit:"]
        message += [
            f"  {limit.name}: {format_bytes(limit.needed)} are needed, {format_bytes(limit.allowed)} allowed"
            for limit in broken
        ]
        message.append(
            f"the largest pool is {largest.pool}: {largest.slots} slots of {format_bytes(largest.slot_bytes)}; "
            f"make it smaller with {_smaller(largest)},"
        )
        message += [f"or {limit.remedy}" for limit in broken]
        raise StartError("\n".join(message))


def make_budget(plan: Plan, memory: MemoryLimits) -> Budget:
    """The sums of `plan` against `memory`."""
    lines = tuple(
        BudgetLine(pool.name, pool.slots, pool.slot_bytes, SegmentLayout.total_bytes(pool.slots, pool.slot_bytes))
        for pool in plan.pools
    )
    total = sum(line.nbytes for line in lines)
    largest = max(line.nbytes for line in lines)
    return Budget(lines, tuple(_limits(plan.segment_kind, total, largest, memory)))


def _limits(kind: str, total: int, largest: int, memory: MemoryLimits) -> Iterator[BudgetLimit]:
    if kind == "posix":
        give = f"give the container more, such as docker run --shm-size={-(-2 * total // (1 << 20))}m"
        yield BudgetLimit("free in /dev/shm", total, memory.shm_free or 0, give)
        if memory.file_size is not None:
            yield BudgetLimit("file size (ulimit -f)", largest, memory.file_size, "raise ulimit -f")
    else:
        if memory.sysv_segment is not None:
            yield BudgetLimit("kernel.shmmax", largest, memory.sysv_segment, f"sysctl kernel.shmmax={largest}")
        if memory.sysv_total is not None:
            raise_it = f"raise kernel.shmall to {-(-total // mmap.PAGESIZE)} pages"
            yield BudgetLimit("kernel.shmall", total, memory.sysv_total, raise_it)
    if memory.address_space is not None:
        yield BudgetLimit("address space (ulimit -v)", total, memory.address_space, "raise ulimit -v")
    if memory.cgroup_headroom is not None:
        yield BudgetLimit("cgroup memory left", total, memory.cgroup_headroom, "raise the container's memory limit")
    if memory.available is not None:
        yield BudgetLimit("available memory", total, memory.available, "free memory on this host")


def _smaller(line: BudgetLine) -> str:
    if line.pool.startswith(f"{INGRESS}/"):
        return "--set ingress.slots=N or a smaller max in inputs:"
    stage = line.pool.partition("/")[0]
    return f"--set {stage}.credits=N, --set {stage}.batch.max_size=N or fewer ingress.slots"
