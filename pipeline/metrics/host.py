"""Host: what the machine, or the container, of a run has left: room for segments, and its GPUs, if it has any."""

from __future__ import annotations

import os
from typing import NamedTuple

from pipeline.topology.nvml import GpuUsage, read_usage

__all__ = ["HostUsage", "host_usage"]

_SHM = "/dev/shm"


class HostUsage(NamedTuple):
    """What is used, and what is left."""

    shm_bytes: int | None
    """Of /dev/shm, where the segments of a run are; None: there is none."""
    shm_free_bytes: int | None
    gpus: tuple[GpuUsage, ...]
    """Those that NVML shows here; none if its module, the extra `gpu`, is missing."""


def host_usage(shm: str = _SHM) -> HostUsage:
    """How it is now.

    Args:
        shm: the folder of the file system.
    """
    try:
        found = os.statvfs(shm)
    except OSError:
        return HostUsage(None, None, read_usage())
    return HostUsage(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, read_usage())
