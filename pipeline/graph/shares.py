"""Shares: which CPUs and GPUs of a machine each shard of a pipeline has. Pure.

The rules, and why:

* GPUs are divided in blocks in CUDA's order, the larger ones first: GPUs on one NUMA node mostly have numbers side by
  side. If there are fewer GPUs than shards, several shards share one.
* The cores of a NUMA node are divided in blocks among the shards that have a GPU there; of a node without such, or of
  a machine without GPUs, all cores among all shards, in the order of the nodes. So a shard of a machine with as many
  nodes as shards has a node of its own.
* Where placement binds nothing (fewer than 4 cores, or a quota), nothing is divided either, nor if a shard would get no
  core: each shard may then use every CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pipeline.topology.cpus import Cpus
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode

__all__ = ["Share", "machine_of", "shares_of", "visible_to"]

_MIN_CORES = 4

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Share:
    """One shard's part of a machine."""

    cpus: tuple[int, ...]
    """Rising; of several shards they overlap only if CPUs are not divided."""
    gpus: tuple[int, ...]
    """Positions in `Machine.gpus`."""


def shares_of(machine: Machine, shards: int) -> list[Share]:
    """The share of each shard."""
    numbers = range(len(machine.gpus))
    if len(numbers) >= shards or not numbers:
        gpus = _blocks(numbers, shards)
    else:
        gpus = [(number % len(numbers),) for number in range(shards)]
    return [Share(cpus, own) for cpus, own in zip(_cpus(machine, gpus), gpus)]


def machine_of(machine: Machine, share: Share) -> Machine:
    """The machine as a shard with this share sees it."""
    wanted = set(share.cpus)
    nodes = tuple(
        replace(node, cpus=tuple(cpu for cpu in node.cpus if cpu in wanted))
        for node in machine.nodes
        if wanted.intersection(node.cpus)
    )
    cpus = Cpus(share.cpus, machine.cpus.quota, machine.cpus.cores)
    return replace(machine, cpus=cpus, nodes=nodes, gpus=tuple(machine.gpus[at] for at in share.gpus))


def visible_to(share: Share, machine: Machine, visible: str | None) -> str | None:
    """CUDA_VISIBLE_DEVICES of a shard; None: the machine has no GPUs, and it stays as it is.

    Args:
        visible: what it is now; None: it is not set.
    """
    if not machine.gpus:
        return None
    entries = [str(number) for number in range(len(machine.gpus))] if visible is None else visible.split(",")
    return ",".join(entries[at].strip() for at in share.gpus)


def _cpus(machine: Machine, gpus: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    shards = len(gpus)
    cores = {machine.cpus.core(cpu) for cpu in machine.cpus.allowed}
    found: list[list[int]] = [[] for _ in gpus]
    if len(cores) >= _MIN_CORES and not machine.cpus.is_shared:
        near = [{machine.gpus[at].numa_node for at in own} for own in gpus]
        free: list[tuple[int, ...]] = []
        for node in machine.nodes:
            whose = [shard for shard in range(shards) if node.number in near[shard]]
            if whose:
                for shard, block in zip(whose, _blocks(_cores(node, machine), len(whose))):
                    found[shard] += [cpu for core in block for cpu in core]
            else:
                free += _cores(node, machine)
        for shard, block in enumerate(_blocks(free, shards)):
            found[shard] += [cpu for core in block for cpu in core]
    if not all(found):
        return [machine.cpus.allowed] * shards
    return [tuple(sorted(cpus)) for cpus in found]


def _cores(node: NumaNode, machine: Machine) -> list[tuple[int, ...]]:
    """The cores of a node, each with its hardware threads."""
    cores: dict[int, list[int]] = {}
    for cpu in node.cpus:
        cores.setdefault(machine.cpus.core(cpu), []).append(cpu)
    return [tuple(cores[core]) for core in sorted(cores)]


def _blocks(values: Sequence[_T], count: int) -> list[tuple[_T, ...]]:
    """`values` in `count` blocks, in their order, whose lengths differ by 1 at most; the longer ones first."""
    size, more = divmod(len(values), count)
    blocks, at = [], 0
    for number in range(count):
        end = at + size + (number < more)
        blocks.append(tuple(values[at:end]))
        at = end
    return blocks
