"""What the control groups of this process allow: CPUs, CPU time, memory; versions 1 and 2.

Every group from the process's own up to the root may have a limit, and all of them apply, so the
smallest one is the answer. Interfaces: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{cpusets,memory}.rst of
the Linux kernel. Only reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline.topology.cpulist import parse_cpu_list

__all__ = ["CgroupLimits", "read_cgroup_limits", "read_memory_kills"]

#: Version 1 says "no limit" with the largest number of pages that a signed 64-bit number of bytes holds.
_NO_LIMIT_V1 = 1 << 60


class CgroupLimits(msgspec.Struct, frozen=True):
    """None: no limit."""

    cpus: frozenset[int] | None = None
    """The CPUs of the cpuset."""
    cpu_quota: float | None = None
    """CPU time per elapsed time: 2.5 is the time of two and a half CPUs, on any of the CPUs."""
    memory_limit: int | None = None
    """Bytes: the limit of the group that has the least room left."""
    memory_headroom: int | None = None
    """Bytes that may still be charged to that group: its limit, less what it uses and cannot give back."""
    threads_left: int | None = None
    """Processes and threads that may still be made (the pids controller)."""


def read_cgroup_limits(root: Path) -> CgroupLimits:
    """The limits of the process whose /proc/self lies below `root`."""
    paths = dict(_memberships(root))
    mount = root / "sys/fs/cgroup"
    # The kernel has one hierarchy of version 2, and on hybrid systems it carries no controllers.
    if (mount / "cgroup.controllers").is_file():
        return _version_2(list(_ancestry(mount, paths.get("", "/"))))
    return CgroupLimits(
        cpus=_first_cpus(_ancestry(mount / "cpuset", paths.get("cpuset", "/")), "cpuset.effective_cpus", "cpuset.cpus"),
        cpu_quota=_quota_v1(_ancestry(mount / "cpu", paths.get("cpu", "/"))),
        threads_left=_threads_left(_ancestry(mount / "pids", paths.get("pids", "/"))),
        **_memory(
            _ancestry(mount / "memory", paths.get("memory", "/")),
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )


def read_memory_kills(root: Path) -> int | None:
    """How many processes of this process's own group the kernel has killed for want of memory.

    None if the kernel does not say: in the root group, on an old kernel, or without control groups.
    """
    paths = dict(_memberships(root))
    mount = root / "sys/fs/cgroup"
    if (mount / "cgroup.controllers").is_file():
        group, name = next(_ancestry(mount, paths.get("", "/"))), "memory.events"
    else:
        group, name = next(_ancestry(mount / "memory", paths.get("memory", "/"))), "memory.oom_control"
    lines = _text(group / name).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _version_2(groups: list[Path]) -> CgroupLimits:
    quotas = []
    for group in groups:
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    return CgroupLimits(
        cpus=_first_cpus(groups, "cpuset.cpus.effective"),
        cpu_quota=min(quotas, default=None),
        threads_left=_threads_left(groups),
        **_memory(groups, "memory.max", "memory.current", "inactive_file"),
    )


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) of /proc/self/cgroup; the controller of version 2 is empty."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _ancestry(mount: Path, path: str) -> Iterator[Path]:
    """The group at `path` and those above it, innermost first.

    In a container without a cgroup namespace, `path` is the host's, while the mount shows the
    container's own group as its root: then the root is the only group.
    """
    group = mount / path.strip("/")
    if ".." not in path.split("/") and group.is_dir():
        while group != mount:
            yield group
            group = group.parent
    yield mount


def _first_cpus(groups: Iterator[Path] | list[Path], *names: str) -> frozenset[int] | None:
    """The innermost group's own set; it is a part of the sets above it."""
    for group in groups:
        for name in names:
            if text := _text(group / name):
                return frozenset(parse_cpu_list(text))
    return None


def _quota_v1(groups: Iterator[Path]) -> float | None:
    quotas = []
    for group in groups:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # -1 is no quota
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _threads_left(groups: Iterator[Path] | list[Path]) -> int | None:
    left = []
    for group in groups:
        most, now = _text(group / "pids.max"), _text(group / "pids.current")
        if most.isdecimal() and now.isdecimal():  # "max" is no limit
            left.append(max(0, int(most) - int(now)))
    return min(left, default=None)


def _memory(groups: Iterator[Path] | list[Path], limit_file: str, usage_file: str, cache: str) -> dict[str, int | None]:
    tightest: tuple[int, int] | None = None
    for group in groups:
        limit, usage = _text(group / limit_file), _text(group / usage_file)
        if not limit.isdecimal() or int(limit) >= _NO_LIMIT_V1:
            continue
        # Page cache is charged too, but given back under pressure; tmpfs is not part of inactive_file.
        used = max(0, int(usage or 0) - _statistic(group / "memory.stat", cache))
        headroom = max(0, int(limit) - used)
        if tightest is None or headroom < tightest[0]:
            tightest = headroom, int(limit)
    if tightest is None:
        return {"memory_headroom": None, "memory_limit": None}
    return {"memory_headroom": tightest[0], "memory_limit": tightest[1]}


def _statistic(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
