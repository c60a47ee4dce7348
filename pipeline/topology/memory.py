"""How much shared memory may be made here: the mount, the process's limits, the kernel's, the cgroup's."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.topology.cgroups import CgroupLimits

__all__ = ["MemoryLimits", "read_memory_limits"]


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Bytes, unless said otherwise; None where nothing is limited or known."""

    shm_size: int | None = None
    """Size of the tmpfs at /dev/shm; None where there is none."""
    shm_free: int | None = None
    """What is free in it."""
    available: int | None = None
    """The kernel's estimate of what can be allocated without swapping (MemAvailable)."""
    cgroup_limit: int | None = None
    cgroup_headroom: int | None = None
    """What may still be charged to the cgroup; shared memory is, when its pages are first touched."""
    address_space: int | None = None
    """RLIMIT_AS: what one process may map, of everything."""
    file_size: int | None = None
    """RLIMIT_FSIZE: the largest file that may be made, also in /dev/shm."""
    open_files: int | None = None
    """RLIMIT_NOFILE: descriptors of one process."""
    sysv_segment: int | None = None
    """kernel.shmmax: the largest System V segment."""
    sysv_total: int | None = None
    """kernel.shmall, in bytes: all System V segments together."""


def read_memory_limits(
    root: Path,
    cgroup: CgroupLimits,
    *,
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    getrlimit: Callable[[int], tuple[int, int]] = resource.getrlimit,
) -> MemoryLimits:
    """The limits of this process.

    Args:
        root: where /proc and /dev lie.
        cgroup: the limits of its control groups.
        statvfs, getrlimit: the system calls of these names.
    """
    try:
        shm = statvfs(root / "dev/shm")
    except OSError:
        shm = None

    def rlimit(which: int) -> int | None:
        soft, _ = getrlimit(which)
        return None if soft == resource.RLIM_INFINITY else soft

    shmall = _number(root / "proc/sys/kernel/shmall")
    return MemoryLimits(
        shm_size=shm.f_blocks * shm.f_frsize if shm else None,
        shm_free=shm.f_bavail * shm.f_frsize if shm else None,
        available=_available(root / "proc/meminfo"),
        cgroup_limit=cgroup.memory_limit,
        cgroup_headroom=cgroup.memory_headroom,
        address_space=rlimit(resource.RLIMIT_AS),
        file_size=rlimit(resource.RLIMIT_FSIZE),
        open_files=rlimit(resource.RLIMIT_NOFILE),
        sysv_segment=_number(root / "proc/sys/kernel/shmmax"),
        sysv_total=None if shmall is None else shmall * resource.getpagesize(),
    )


def _available(path: Path) -> int | None:
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except OSError:
        return None
