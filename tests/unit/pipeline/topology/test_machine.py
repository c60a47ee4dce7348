"""Whole machines: a small VM, two sockets with 128 CPUs, a container with a cpuset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.topology.cpus import Cpus
from pipeline.topology.machine import Machine, read_machine
from pipeline.topology.numa import NumaNode

Tree = Callable[[Mapping[str, str]], Path]


def two_sockets() -> dict[str, str]:
    """128 CPUs: cores 0-31 and 32-63 on two nodes, their second threads 64-95 and 96-127."""
    files = {
        "sys/devices/system/node/node0/cpulist": "0-31,64-95",
        "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       131072000 kB\nNode 0 MemFree: 1 kB",
        "sys/devices/system/node/node1/cpulist": "32-63,96-127",
        "sys/devices/system/node/possible": "0-1",
    }
    for cpu in range(128):
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu % 64},{cpu % 64 + 64}"
    return files


def test_a_small_vm_has_one_node(tree: Tree) -> None:
    root = tree({"sys/devices/system/node/node0/cpulist": "0-1", "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 4 kB"})
    machine = read_machine(root, affinity={0, 1})
    assert machine.cpus == Cpus((0, 1))
    assert machine.nodes == (NumaNode(0, (0, 1), 4096),)
    assert machine.gpus == ()


def test_a_kernel_without_numa_has_one_node_with_all(tree: Tree) -> None:
    assert read_machine(tree({}), affinity={0, 5}).nodes == (NumaNode(0, (0, 5)),)


def test_two_sockets_with_128_cpus(tree: Tree) -> None:
    machine = read_machine(tree(two_sockets()), affinity=range(128))
    assert [node.number for node in machine.nodes] == [0, 1]
    assert machine.nodes[1].cpus == (*range(32, 64), *range(96, 128))
    assert (machine.nodes[0].memory, machine.nodes[1].memory) == (131072000 * 1024, None)
    assert len(machine.cpus.allowed) == machine.cpus.effective == 128
    assert {machine.cpus.core(cpu) for cpu in machine.cpus.allowed} == set(range(64))


def test_the_affinity_mask_leaves_only_its_nodes(tree: Tree) -> None:
    machine = read_machine(tree(two_sockets()), affinity={40, 41, 100})
    assert machine.nodes == (NumaNode(1, (40, 41, 100), None),)


def test_a_cpuset_counts_beside_the_mask(tree: Tree) -> None:
    files = two_sockets() | {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu",
        "sys/fs/cgroup/cpuset.cpus.effective": "64-67",
        "sys/fs/cgroup/cpu.max": "200000 100000",
    }
    cpus = read_machine(tree(files), affinity=range(128)).cpus
    assert (cpus.allowed, cpus.quota, cpus.effective, cpus.is_shared) == ((64, 65, 66, 67), 2.0, 2, True)


def test_a_quota_below_one_cpu_is_one_cpu_and_a_large_one_changes_nothing() -> None:
    assert (Cpus((0, 1), quota=0.5).effective, Cpus((0, 1), quota=0.5).is_shared) == (1, True)
    assert (Cpus((0, 1), quota=8.0).effective, Cpus((0, 1), quota=8.0).is_shared) == (2, False)


def test_this_machine_is_read_as_it_is() -> None:
    machine: Machine = read_machine()
    assert set(machine.cpus.allowed) <= os.sched_getaffinity(0)
    assert machine.cpus.allowed
    assert {cpu for node in machine.nodes for cpu in node.cpus} <= set(machine.cpus.allowed)
    assert machine.memory.available is not None
