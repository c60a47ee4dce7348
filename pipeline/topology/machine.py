"""Machine: everything that planning needs to know about the host, as one frozen value.

It is read once, at the start; `pipeline.graph` decides from it without looking at the host again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pipeline.topology.cgroups import read_cgroup_limits
from pipeline.topology.cpus import Cpus, read_cpus
from pipeline.topology.gpus import Gpu, read_gpus, visible_gpus
from pipeline.topology.memory import MemoryLimits, read_memory_limits
from pipeline.topology.numa import NumaNode, read_numa_nodes
from pipeline.topology.nvml import read_nvml

__all__ = ["Machine", "read_machine"]


class Machine(msgspec.Struct, frozen=True):
    """The part of the host that this process may use."""

    cpus: Cpus
    nodes: tuple[NumaNode, ...]
    """The nodes with allowed CPUs, by rising number; never empty."""
    memory: MemoryLimits = msgspec.field(default_factory=MemoryLimits)
    gpus: tuple[Gpu, ...] = ()
    """The GPUs that CUDA shows to a process, in CUDA's order: `cuda:0` is the first."""
    why_no_gpu: str = "this machine has none"
    """The reason if `gpus` is empty."""


def read_machine(
    root: Path | str = "/", *, affinity: Iterable[int] | None = None, visible: str | None = None
) -> Machine:
    """The machine whose /proc, /sys and /dev lie below `root`.

    Args:
        affinity: CPUs of the affinity mask; None: of this process.
        visible: CUDA_VISIBLE_DEVICES; None: of this process if `root` is the machine itself, otherwise all GPUs.
    """
    root = Path(root)
    nvml = None
    if root == Path("/"):  # NVML knows only this machine
        nvml = read_nvml()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    gpus, why_no_gpu = visible_gpus(read_gpus(root, nvml), visible)
    cgroup = read_cgroup_limits(root)
    cpus = read_cpus(root, cgroup, affinity)
    nodes, memory = read_numa_nodes(root, cpus.allowed), read_memory_limits(root, cgroup)
    return Machine(cpus, nodes, memory, gpus, why_no_gpu)
