"""Control groups of both versions, seen from hosts and from containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.topology.cgroups import CgroupLimits, read_cgroup_limits, read_memory_kills

Tree = Callable[[Mapping[str, str]], Path]

V2 = {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory"}
NO_LIMIT_V1 = "9223372036854771712"


def test_without_groups_nothing_is_limited(tree: Tree) -> None:
    assert read_cgroup_limits(tree({})) == CgroupLimits()


def test_version_2_in_a_container_with_its_own_namespace(tree: Tree) -> None:
    root = tree(
        V2
        | {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/cpu.max": "250000 100000",
            "sys/fs/cgroup/cpuset.cpus.effective": "4-7,100",
            "sys/fs/cgroup/memory.max": "1073741824",
            "sys/fs/cgroup/memory.current": "600000000",
            "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 100000000\nactive_file 5",
        }
    )
    assert read_cgroup_limits(root) == CgroupLimits(
        cpus=frozenset({4, 5, 6, 7, 100}),
        cpu_quota=2.5,
        memory_limit=1073741824,
        memory_headroom=1073741824 - 500000000,
    )


def test_version_2_without_limits_says_max(tree: Tree) -> None:
    root = tree(V2 | {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"})
    assert read_cgroup_limits(root) == CgroupLimits()


def test_the_tightest_limit_on_the_way_up_holds(tree: Tree) -> None:
    root = tree(
        V2
        | {
            "proc/self/cgroup": "0::/user.slice/job",
            "sys/fs/cgroup/user.slice/cpu.max": "100000 100000",
            "sys/fs/cgroup/user.slice/memory.max": "2000",
            "sys/fs/cgroup/user.slice/memory.current": "1900",
            "sys/fs/cgroup/user.slice/job/cpu.max": "400000 100000",
            "sys/fs/cgroup/user.slice/job/memory.max": "1000",
            "sys/fs/cgroup/user.slice/job/memory.current": "100",
        }
    )
    limits = read_cgroup_limits(root)
    assert (limits.cpu_quota, limits.memory_limit, limits.memory_headroom) == (1.0, 2000, 100)


def test_a_group_above_its_limit_has_no_room(tree: Tree) -> None:
    root = tree(
        V2 | {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "1000", "sys/fs/cgroup/memory.current": "1500"}
    )
    assert read_cgroup_limits(root).memory_headroom == 0


def test_version_1_on_a_host(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/job\n3:cpuset:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "150000",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpuset/job/cpuset.cpus": "0-1",
            "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "5000",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "3000",
            "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 500",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "99999",
        }
    )
    assert read_cgroup_limits(root) == CgroupLimits(frozenset({0, 1}), 1.5, 5000, 2500)


def test_version_1_in_a_container_whose_mount_begins_at_its_own_group(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/docker/3f1c\n2:cpu,cpuacct:/docker/3f1c",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
        }
    )
    assert read_cgroup_limits(root) == CgroupLimits(None, 2.0, 5000, 4000)


def test_a_hybrid_host_is_read_as_version_1(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/\n0::/init.scope",
            "sys/fs/cgroup/unified/cgroup.controllers": "",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "700",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "100",
        }
    )
    assert read_cgroup_limits(root) == CgroupLimits(None, None, 700, 600)


def test_a_path_outside_the_namespace_leaves_the_mount_alone(tree: Tree) -> None:
    root = tree(V2 | {"proc/self/cgroup": "0::/../../other", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert read_cgroup_limits(root).cpu_quota == 0.5


def test_the_threads_that_are_left_are_those_of_the_tightest_group(tree: Tree) -> None:
    version_2 = {
        "proc/self/cgroup": "0::/a/b",
        "sys/fs/cgroup/a/pids.max": "100",
        "sys/fs/cgroup/a/pids.current": "90",
        "sys/fs/cgroup/a/b/pids.max": "max",
        "sys/fs/cgroup/a/b/pids.current": "80",
    }
    assert read_cgroup_limits(tree(V2 | version_2)).threads_left == 10


def test_version_1_has_a_group_of_threads_of_its_own(tree: Tree) -> None:
    version_1 = {
        "proc/self/cgroup": "8:pids:/job",
        "sys/fs/cgroup/pids/job/pids.max": "5",
        "sys/fs/cgroup/pids/job/pids.current": "9",
    }
    assert read_cgroup_limits(tree(version_1)).threads_left == 0


def test_kills_for_want_of_memory_are_those_of_the_own_group(tree: Tree) -> None:
    version_2 = {
        "proc/self/cgroup": "0::/a/b",
        "sys/fs/cgroup/a/memory.events": "low 0\noom_kill 9",
        "sys/fs/cgroup/a/b/memory.events": "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 0",
    }
    assert read_memory_kills(tree(V2 | version_2)) == 3


def test_kills_in_version_1_and_where_nothing_is_said(tree: Tree) -> None:
    version_1 = {
        "proc/self/cgroup": "4:memory:/job",
        "sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    }
    assert read_memory_kills(tree(version_1)) == 2
    old = {"proc/self/cgroup": "4:memory:/job", "sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill_disable 0"}
    assert read_memory_kills(tree(old)) is None
    assert read_memory_kills(tree({})) is None
