"""Budget: the memory, descriptors and processes that a plan takes, against every limit that can refuse them. Pure.

A mapping that is larger than what stands behind it fails at the first touch, with SIGBUS or the OOM
killer, minutes later. So the sum is made before anything starts. What the slots take is known to the byte; what the
processes take is estimated from below, so a plan that is refused for it could not have worked.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping

import msgspec

from pipeline.config.quantities import format_bytes
from pipeline.errors import StartError
from pipeline.graph.plan import INGRESS, Plan, producer_of
from pipeline.topology.memory import MemoryLimits
from pipeline.wire.handover import RING_BYTES
from shm.layout import SegmentLayout, ceil_div

#: What a process takes before it computes anything: the interpreter, numpy, zmq. 19 MiB of anonymous memory (RssAnon)
#: were measured, and 30 MiB for one that has imported onnxruntime.
_PROCESS_BYTES = 18 << 20

#: Threads of a child: its own, the one that watches the lifeline, and two of libzmq.
_CHILD_THREADS = 4
_SUPERVISOR_THREADS = 3

#: Descriptors of the supervisor, as counted in /proc/<pid>/fd: its own, and 5 for each child (pipes of its stdin and
#: stdout, a connection in either direction). Each segment counts twice, for the next is made before the old one goes.
#: libzmq aborts the process that runs out of them, so what is needed for a moment (4 at a spawn) is among its own.
_OWN_FILES = 19
_CHILD_FILES = 5

#: Rings of one client: from it to the scheduler, and back.
_CLIENT_RINGS = 2

__all__ = ["Budget", "BudgetLimit", "BudgetLine", "make_budget", "short_of_one_more"]


class BudgetLine(msgspec.Struct, frozen=True):
    """One pool."""

    pool: str
    slots: int
    slot_bytes: int
    nbytes: int
    """Of its segment: slots, header, and the rest of the last page."""


class BudgetLimit(msgspec.Struct, frozen=True):
    """One limit that could refuse the plan."""

    name: str
    needed: int
    allowed: int
    remedy: str
    """What to do to get more of it; completes "or ..."."""
    why: str = ""
    """Where `needed` comes from, if that is an estimate; it is the least then."""
    is_memory: bool = True
    """Whether it counts bytes; otherwise it is a number of things."""

    @property
    def holds(self) -> bool:
        """True if it is enough."""
        return self.needed <= self.allowed

    def shown(self, value: int) -> str:
        """`needed` or `allowed` for people."""
        return format_bytes(value) if self.is_memory else str(value)

    def __str__(self) -> str:
        least = "at least " if self.why else ""
        why = f" ({self.why})" if self.why else ""
        return f"{self.name}: {least}{self.shown(self.needed)} are needed{why}, {self.shown(self.allowed)} allowed"


class Budget(msgspec.Struct, frozen=True):
    """The sums of a plan on a machine."""

    lines: tuple[BudgetLine, ...]
    limits: tuple[BudgetLimit, ...]
    weights: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Bytes of the files of models that each of a stage's workers will hold in memory, by the stage's name."""
    rings: int = 0
    """How many rings there are once each process has sent to each that it may send to, with one client."""

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(line.nbytes for line in self.lines)

    @property
    def ring_bytes(self) -> int:
        """Bytes of these rings. They lie beside the segments, in memory without a name: not in /dev/shm."""
        return self.rings * RING_BYTES

    def refuse(self) -> None:
        """Say what does not fit.

        Raises:
            StartError: with the sums, what there is, and what to change.
        """
        broken = [limit for limit in self.limits if not limit.holds]
        if not broken:
            return
        message: list[str] = []
        if short := [limit for limit in broken if not limit.why]:
            largest = max(self.lines, key=lambda line: line.nbytes)
            message += [f"the pipeline's shared memory of {format_bytes(self.nbytes)} does not fit:"]
            message += [f"  {limit}" for limit in short]
            message.append(
                f"the largest pool is {largest.pool}: {largest.slots} slots of {format_bytes(largest.slot_bytes)}; "
                f"make it smaller with {_smaller(largest)},"
            )
            message += [f"or {limit.remedy}" for limit in short]
        message += [f"{limit}; {limit.remedy}, or start fewer replicas" for limit in broken if limit.why]
        raise StartError("\n".join(message))


def make_budget(plan: Plan, memory: MemoryLimits, weights: Mapping[str, int] | None = None) -> Budget:
    """The sums of `plan` against `memory`.

    Args:
        weights: bytes of the files of models that a stage's workers will hold in memory, by the stage's name.
    """
    lines = tuple(
        BudgetLine(pool.name, pool.slots, pool.slot_bytes, SegmentLayout.total_bytes(pool.slots, pool.slot_bytes))
        for pool in plan.pools
    )
    total = sum(line.nbytes for line in lines)
    largest = max(line.nbytes for line in lines)
    rings = _rings(plan)
    limits = [
        *_limits(plan, total, largest, rings * RING_BYTES, memory),
        *_limits_of_processes(plan, total, rings * RING_BYTES, memory, weights or {}),
    ]
    return Budget(lines, tuple(limits), weights or {}, rings)


def short_of_one_more(weights: int, memory: MemoryLimits) -> str:
    """What is missing for one more worker beside all that run now, for a person; empty: nothing that can be told.

    It needs no more shared memory: slots are those of its stage, whichever worker fills them.

    Args:
        weights: bytes of the files of models that it will hold in memory.
        memory: what is left now.
    """
    return "; ".join(f"{limit}; {limit.remedy}" for limit in _limits_of_one_more(weights, memory) if not limit.holds)


def _rings(plan: Plan) -> int:
    """One for each pair of a process that sends and a worker, scheduler or client that receives."""
    if plan.link != "ring":
        return 0
    processes = {stage: stages for stages in plan.processes for stage in stages}
    # A camera's source is a client, too.
    count = _CLIENT_RINGS * (1 + len(plan.cameras)) + sum(len(stage.workers) for stage in plan.stages)
    count += sum(len(plan.stages[stages[0]].workers) for stages in plan.processes)
    numbers = {stage.name: index for index, stage in enumerate(plan.stages)}
    # A process hands on to the workers of a later stage, whichever of its own stages has computed.
    ways = {
        (processes[numbers[before]], index)
        for index, stage in enumerate(plan.stages)
        for before in stage.after
    }
    for senders, receiver in ways:
        replicas = len(plan.stages[senders[0]].workers)
        # To the one in itself a process hands on without a message.
        others = len(plan.stages[receiver].workers) - (receiver in senders)
        count += replicas * others
    return count


def _limits(plan: Plan, total: int, largest: int, rings: int, memory: MemoryLimits) -> Iterator[BudgetLimit]:
    if plan.segment_kind != "sysv":
        more = ceil_div(2 * total, 1 << 20)
        if plan.segment_dir:
            give = f"give the volume more (emptyDir: sizeLimit: {more}Mi; a tmpfs: mount -o remount,size={more}m)"
        else:
            give = f"give the container more, such as docker run --shm-size={more}m"
        yield BudgetLimit(f"free in {plan.segment_dir or '/dev/shm'}", total, memory.shm_free or 0, give)
        if memory.file_size is not None:
            yield BudgetLimit("file size (ulimit -f)", largest, memory.file_size, "raise ulimit -f")
    else:
        if memory.sysv_segment is not None:
            yield BudgetLimit("kernel.shmmax", largest, memory.sysv_segment, f"sysctl kernel.shmmax={largest}")
        if memory.sysv_total is not None:
            raise_it = f"raise kernel.shmall to {ceil_div(total, mmap.PAGESIZE)} pages"
            yield BudgetLimit("kernel.shmall", total, memory.sysv_total, raise_it)
    if memory.address_space is not None:
        yield BudgetLimit("address space (ulimit -v)", total, memory.address_space, "raise ulimit -v")
    if memory.available is not None:
        yield BudgetLimit("available memory", total + rings, memory.available, "free memory on this host")


def _limits_of_processes(
    plan: Plan, total: int, rings: int, memory: MemoryLimits, weights: Mapping[str, int]
) -> Iterator[BudgetLimit]:
    # The scheduler is one, too.
    children = 1 + sum(len(plan.stages[stages[0]].workers) for stages in plan.processes)
    if memory.cgroup_headroom is not None:
        models = sum(weights.get(stage.name, 0) * len(stage.workers) for stage in plan.stages)
        why = f"{format_bytes(total)} of slots, {format_bytes(_PROCESS_BYTES)} for each of {children} processes"
        if models:
            why += f", {format_bytes(models)} for the weights of models"
        if rings:
            why += f", {format_bytes(rings)} for rings"
        needed = total + children * _PROCESS_BYTES + models + rings
        raise_it = "raise the container's memory limit"
        yield BudgetLimit("cgroup memory left", needed, memory.cgroup_headroom, raise_it, why)
    if memory.open_files is not None:
        needed = _OWN_FILES + 2 * (len(plan.pools) + 1) + _CHILD_FILES * children
        why = f"by the supervisor of {children} processes"
        yield BudgetLimit("open files (ulimit -n)", needed, memory.open_files, "raise ulimit -n", why, False)
    if memory.threads is not None:
        # The feeder, or another client: without one, it is of no use.
        needed = _SUPERVISOR_THREADS - 1 + _CHILD_THREADS * (children + 1)
        why = f"for {children} processes, and one that sends requests"
        raise_it = "raise it (ulimit -u, or the pids limit of the container)"
        yield BudgetLimit("processes and threads left", needed, memory.threads, raise_it, why, False)


def _limits_of_one_more(weights: int, memory: MemoryLimits) -> Iterator[BudgetLimit]:
    needed = _PROCESS_BYTES + weights
    why = f"{format_bytes(_PROCESS_BYTES)} for a process"
    if weights:
        why += f", {format_bytes(weights)} for weights"
    if memory.available is not None:
        yield BudgetLimit("available memory", needed, memory.available, "free memory on this host", why)
    if memory.cgroup_headroom is not None:
        raise_it = "raise the container's memory limit"
        yield BudgetLimit("cgroup memory left", needed, memory.cgroup_headroom, raise_it, why)
    if memory.threads is not None:
        yield BudgetLimit("processes and threads left", _CHILD_THREADS, memory.threads, "raise ulimit -u", "", False)


def _smaller(line: BudgetLine) -> str:
    stage = producer_of(line.pool)
    if stage == INGRESS:
        return "--set ingress.slots=N or a smaller max in inputs:"
    return f"--set {stage}.credits=N, --set {stage}.batch.max_size=N or fewer ingress.slots"
