"""Limits of shared memory, from the mount, the process and the kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.topology.cgroups import CgroupLimits
from pipeline.topology.memory import MemoryLimits, disk_under, free_in, read_memory_limits

Tree = Callable[[Mapping[str, str]], Path]


def unlimited(_: int) -> tuple[int, int]:
    return resource.RLIM_INFINITY, resource.RLIM_INFINITY


def docker_shm(path: Path) -> os.statvfs_result:
    assert path.parts[-2:] == ("dev", "shm")
    return os.statvfs_result((4096, 4096, 16384, 10240, 10000, 100, 100, 100, 0, 255))


def missing(path: Path) -> os.statvfs_result:
    raise FileNotFoundError(path)


def test_every_limit_is_read(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   50 kB",
            "proc/sys/kernel/shmmax": "18446744073692774399",
            "proc/sys/kernel/shmall": "1000",
        }
    )
    soft = {resource.RLIMIT_AS: 5, resource.RLIMIT_FSIZE: 6, resource.RLIMIT_NOFILE: 7}
    limits = read_memory_limits(
        root,
        CgroupLimits(memory_limit=30, memory_headroom=20),
        statvfs=docker_shm,
        getrlimit=lambda which: (soft[which], 99),
        uid=0,
    )
    assert limits == MemoryLimits(
        shm_free=10000 * 4096,
        available=50 * 1024,
        cgroup_headroom=20,
        address_space=5,
        file_size=6,
        open_files=99,
        sysv_segment=18446744073692774399,
        sysv_total=1000 * resource.getpagesize(),
    )


def test_what_is_not_there_or_unlimited_is_none(tree: Tree) -> None:
    assert read_memory_limits(tree({}), CgroupLimits(), statvfs=missing, getrlimit=unlimited) == MemoryLimits()


def processes(tree: Tree) -> Path:
    return tree(
        {
            "proc/1/status": "Name:\tinit\nUid:\t0\t0\t0\t0\nThreads:\t1\n",
            "proc/20/status": "Name:\ta\nUid:\t7\t7\t7\t7\nGid:\t7\nThreads:\t5\n",
            "proc/21/status": "Name:\tb\nUid:\t7\t0\t0\t0\nThreads:\t2\n",
            "proc/self/status": "Name:\ta\nUid:\t7\t7\t7\t7\nThreads:\t5\n",
        }
    )


def threads_left(root: Path, most: int, uid: int, cgroup: int | None = None) -> int | None:
    limits = {resource.RLIMIT_NPROC: most}
    return read_memory_limits(
        root,
        CgroupLimits(threads_left=cgroup),
        statvfs=missing,
        getrlimit=lambda which: (limits.get(which, resource.RLIM_INFINITY), resource.RLIM_INFINITY),
        uid=uid,
    ).threads


def test_the_threads_of_a_user_count_towards_its_limit(tree: Tree) -> None:
    root = processes(tree)
    assert threads_left(root, most=10, uid=7) == 10 - 5 - 2
    assert threads_left(root, most=6, uid=7) == 0
    assert threads_left(root, most=10, uid=8) == 10
    assert threads_left(root, most=resource.RLIM_INFINITY, uid=7) is None


def test_root_is_held_to_its_cgroup_alone(tree: Tree) -> None:
    root = processes(tree)
    assert threads_left(root, most=10, uid=0) is None
    assert threads_left(root, most=10, uid=0, cgroup=4) == 4
    assert threads_left(root, most=10, uid=7, cgroup=2) == 2
    assert threads_left(root, most=10, uid=7, cgroup=5) == 3


def test_the_room_of_a_folder_that_is_missing_is_that_of_the_one_above_it(tmp_path: Path) -> None:
    found = os.statvfs("/dev/shm")
    assert free_in("/dev/shm/none/nor/this") == found.f_bavail * found.f_frsize == free_in("/dev/shm")
    (tmp_path / "file").touch()
    assert free_in(str(tmp_path / "file" / "below")) is None


def test_a_folder_on_a_disk_is_told_from_one_in_memory(tree: Tree, tmp_path: Path) -> None:
    assert disk_under("/dev/shm") is None
    device = os.stat(tmp_path).st_dev
    line = f"22 1 {os.major(device)}:{os.minor(device)} / / rw,relatime shared:1 - KIND /dev/sda1 rw"
    for kind, said in (("ext4", "ext4"), ("tmpfs", None)):
        root = tree({"proc/self/mountinfo": line.replace("KIND", kind)})
        assert disk_under(str(tmp_path), root) == said
    assert disk_under(str(tmp_path), tree({"proc/self/mountinfo": ""})) is None
    assert disk_under("/none") is None
