"""The CPUs that this process may use, and how much of their time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from pipeline.topology.cgroups import CgroupLimits
from pipeline.topology.cpulist import parse_cpu_list

__all__ = ["Cpus", "read_cpus"]


class Cpus(msgspec.Struct, frozen=True):
    """The CPUs that may be used: in the affinity mask and in the cgroup's cpuset."""

    allowed: tuple[int, ...]
    """Rising."""
    quota: float | None = None
    """CPU time per elapsed time that the cgroup grants; None: no limit but the number of CPUs."""
    cores: Mapping[int, int] = msgspec.field(default_factory=dict)
    """CPU -> the lowest CPU of its core; hardware threads of one core share the number. Empty: unknown."""

    @property
    def effective(self) -> int:
        """How many threads can run at once: the CPUs, or the quota if that is less; at least 1."""
        if self.quota is None:
            return max(1, len(self.allowed))
        return max(1, min(len(self.allowed), math.floor(self.quota)))

    @property
    def is_shared(self) -> bool:
        """True if a quota limits the CPU time: other processes use the same CPUs, and which ones are idle changes."""
        return self.quota is not None and self.quota < len(self.allowed)

    def core(self, cpu: int) -> int:
        """The number of the core to which the hardware thread `cpu` belongs."""
        return self.cores.get(cpu, cpu)


def read_cpus(root: Path, cgroup: CgroupLimits, affinity: Iterable[int] | None = None) -> Cpus:
    """The CPUs of this process.

    Args:
        root: the folder that contains /sys.
        cgroup: the limits of the process.
        affinity: the mask; None: that of this process.
    """
    allowed = set(os.sched_getaffinity(0) if affinity is None else affinity)
    # The kernel keeps a task's mask inside its cpuset, but sandboxes that emulate one do not.
    if cgroup.cpus is not None and allowed & cgroup.cpus:
        allowed &= cgroup.cpus
    cores = {}
    for cpu in allowed:
        try:
            siblings = (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            continue
        cores[cpu] = min(parse_cpu_list(siblings), default=cpu)
    return Cpus(tuple(sorted(allowed)), cgroup.cpu_quota, cores)
