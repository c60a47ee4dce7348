"""Container: the machine that the pipeline will find in its container, for planning on another one. Pure."""

from __future__ import annotations

import math

from msgspec.structs import replace

from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.memory import MemoryLimits
from pipeline.topology.numa import NumaNode

__all__ = ["container_machine"]


def container_machine(here: Machine, cpus: float | None, gpus: int | None) -> Machine:
    """The machine of the container.

    Its memory has no limits: the limits are what is computed from the plan.

    Args:
        here: this machine, for what is not said.
        cpus: the container's CPU limit. The kernel enforces it as a quota over the CPUs of the node, which are more.
        gpus: the GPUs that the container gets.
    """
    machine = replace(here, memory=MemoryLimits())
    if cpus is not None:
        allowed = tuple(range(math.ceil(cpus) + 1))
        machine = replace(machine, cpus=Cpus(allowed, cpus), nodes=(NumaNode(0, allowed),))
    if gpus is not None:
        found = tuple(Gpu(f"0000:{number:02x}:00.0", minor=number) for number in range(gpus))
        machine = replace(machine, gpus=found, why_no_gpu="the container gets none: give it one with --gpus 1")
    return machine
