"""How much memory, how many files and threads a run may have here: limits of mount, process, kernel and cgroup."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipeline.topology.cgroups import CgroupLimits

__all__ = ["MemoryLimits", "disk_under", "free_in", "read_memory_limits"]


class MemoryLimits(msgspec.Struct, frozen=True):
    """Bytes, unless said otherwise; None: no limit, or unknown."""

    shm_free: int | None = None
    """Bytes that are free in the tmpfs at /dev/shm, or where else the segments will be files; None if there is none."""
    available: int | None = None
    """The kernel's estimate of what can be allocated without swapping (MemAvailable)."""
    cgroup_headroom: int | None = None
    """What may still be charged to the cgroup; shared memory is charged when its pages are first touched."""
    address_space: int | None = None
    """RLIMIT_AS: what one process may map in all."""
    file_size: int | None = None
    """RLIMIT_FSIZE: the largest file that may be made, in /dev/shm too."""
    open_files: int | None = None
    """RLIMIT_NOFILE, the hard limit: descriptors of one process. A run raises its soft limit as far as it needs."""
    threads: int | None = None
    """Processes and threads that may still be made: RLIMIT_NPROC less those that this user has, and no more than the
    cgroup still allows."""
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
    uid: int | None = None,
) -> MemoryLimits:
    """The limits of this process.

    Args:
        root: the folder that contains /proc and /dev.
        cgroup: the limits of its control groups.
        statvfs, getrlimit: the system calls of these names.
        uid: the user whose processes count; None: this process's user.
    """
    try:
        shm = statvfs(root / "dev/shm")
    except OSError:
        shm = None

    def rlimit(which: int) -> int | None:
        soft, _ = getrlimit(which)
        return None if soft == resource.RLIM_INFINITY else soft

    files = getrlimit(resource.RLIMIT_NOFILE)[1]
    uid = os.getuid() if uid is None else uid
    threads = [] if cgroup.threads_left is None else [cgroup.threads_left]
    # The kernel does not apply it to root.
    if uid != 0 and (most := rlimit(resource.RLIMIT_NPROC)) is not None:
        threads.append(max(0, most - _threads_of(root / "proc", uid)))
    shmall = _number(root / "proc/sys/kernel/shmall")
    return MemoryLimits(
        shm_free=shm.f_bavail * shm.f_frsize if shm else None,
        available=_available(root / "proc/meminfo"),
        cgroup_headroom=cgroup.memory_headroom,
        address_space=rlimit(resource.RLIMIT_AS),
        file_size=rlimit(resource.RLIMIT_FSIZE),
        open_files=None if files == resource.RLIM_INFINITY else files,
        threads=min(threads, default=None),
        sysv_segment=_number(root / "proc/sys/kernel/shmmax"),
        sysv_total=None if shmall is None else shmall * resource.getpagesize(),
    )


def free_in(folder: str) -> int | None:
    """Bytes that are free in a folder, or, if it is missing, in the nearest one above it that is not; None: unknown."""
    path = Path(folder)
    while True:
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            path = path.parent
        except OSError:
            return None
        else:
            return found.f_bavail * found.f_frsize


def disk_under(folder: str, root: Path = Path("/")) -> str | None:
    """The kind of the file system that a folder is on, such as "ext4", if it is not one in memory; None too if unknown.

    Args:
        root: the folder that contains /proc.
    """
    try:
        device = os.stat(folder).st_dev
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    # proc(5): the device is the third field, and the kind the first one after a lone dash.
    kind = next((line.partition(" - ")[2].split()[0] for line in mounts if f" {number} " in line), None)
    return None if kind in ("tmpfs", "ramfs", "hugetlbfs", "devtmpfs") else kind


def _threads_of(proc: Path, uid: int) -> int:
    """How many threads the processes of a user have, as far as they can be seen."""
    count = 0
    for process in proc.glob("[0-9]*"):
        try:
            text = (process / "status").read_text()
        except OSError:  # it has ended since
            continue
        if found := re.search(r"^Uid:\s+(\d+).*?^Threads:\s+(\d+)", text, re.MULTILINE | re.DOTALL):
            count += int(found[2]) if int(found[1]) == uid else 0
    return count


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
