"""Machine: everything that planning needs to know of the host, as one frozen value.

Read once, at the start; `pipeline.graph` decides from it without looking at the host again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.topology.cgroups import read_cgroup_limits
from pipeline.topology.cpus import Cpus, read_cpus
from pipeline.topology.gpus import Gpu, read_gpus
from pipeline.topology.memory import MemoryLimits, read_memory_limits
from pipeline.topology.numa import NumaNode, read_numa_nodes

__all__ = ["Machine", "read_machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """The part of the host that this process may use."""

    cpus: Cpus
    nodes: tuple[NumaNode, ...]
    """Those with allowed CPUs, by rising number; never empty."""
    memory: MemoryLimits = field(default_factory=MemoryLimits)
    gpus: tuple[Gpu, ...] = ()


def read_machine(root: Path | str = "/", *, affinity: Iterable[int] | None = None) -> Machine:
    """The machine whose /proc, /sys and /dev lie below `root`.

    Args:
        affinity: CPUs of the affinity mask; None: of this process.
    """
    root = Path(root)
    cgroup = read_cgroup_limits(root)
    cpus = read_cpus(root, cgroup, affinity)
    return Machine(cpus, read_numa_nodes(root, cpus.allowed), read_memory_limits(root, cgroup), read_gpus(root))
