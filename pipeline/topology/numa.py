"""NUMA nodes: which CPUs and how much memory each holds. From /sys/devices/system/node."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pipeline.topology.cpulist import parse_cpu_list

__all__ = ["NumaNode", "read_numa_nodes"]

_TOTAL = re.compile(r"MemTotal:\s+(\d+) kB")


class NumaNode(msgspec.Struct, frozen=True):
    """One node that has at least one of this process's CPUs."""

    number: int
    cpus: tuple[int, ...]
    """The CPUs that this process may use, rising."""
    memory: int | None = None
    """Bytes; None if the kernel does not say."""


def read_numa_nodes(root: Path, allowed: Iterable[int]) -> tuple[NumaNode, ...]:
    """The nodes that hold `allowed` CPUs, rising; if the kernel shows none, one node 0 with all of them."""
    wanted = set(allowed)
    nodes = []
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        try:
            cpus = tuple(cpu for cpu in parse_cpu_list((folder / "cpulist").read_text()) if cpu in wanted)
        except OSError:
            continue
        if cpus:
            nodes.append(NumaNode(int(folder.name.removeprefix("node")), cpus, _memory(folder)))
    unplaced = wanted.difference(*(node.cpus for node in nodes))
    if unplaced and not nodes:
        nodes.append(NumaNode(0, tuple(sorted(unplaced))))
    return tuple(sorted(nodes, key=lambda node: node.number))


def _memory(folder: Path) -> int | None:
    try:
        match = _TOTAL.search((folder / "meminfo").read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None
