"""Which CPUs and GPUs of a machine each shard has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.graph.shares import Share, machine_of, shares_of, visible_to
from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode


def machine(nodes: int = 1, cores: int = 4, gpus: Sequence[int | None] = (), quota: float | None = None) -> Machine:
    """`nodes` nodes with `cores` cores of two threads each; GPUs by the node that each is near."""
    count = nodes * cores
    siblings = {cpu: cpu % count for cpu in range(2 * count)}
    found = tuple(
        NumaNode(node, tuple(cpu for cpu in range(2 * count) if cpu % count // cores == node)) for node in range(nodes)
    )
    cards = tuple(Gpu(f"0000:{at:02}:00.0", "H200", at, near) for at, near in enumerate(gpus))
    return Machine(Cpus(tuple(range(2 * count)), quota, siblings), found, gpus=cards)


def test_the_cores_are_divided_and_no_core_is_split() -> None:
    assert shares_of(machine(), 2) == [Share((0, 1, 4, 5), ()), Share((2, 3, 6, 7), ())]


def test_with_as_many_nodes_as_shards_each_has_one() -> None:
    whole = machine(nodes=2)
    assert [share.cpus for share in shares_of(whole, 2)] == [node.cpus for node in whole.nodes]


def test_the_longer_parts_come_first_and_all_is_given_away() -> None:
    shares = shares_of(machine(cores=8, gpus=[0, 0, 0]), 2)
    assert [share.gpus for share in shares] == [(0, 1), (2,)]
    parts = shares_of(machine(cores=5), 3)
    assert [len(share.cpus) for share in parts] == [4, 4, 2]
    assert sorted(cpu for share in parts for cpu in share.cpus) == list(range(10))


def test_a_shard_has_the_cores_near_its_gpus() -> None:
    whole = machine(nodes=2, gpus=[0, 0, 1, 1])
    assert shares_of(whole, 2) == [Share(whole.nodes[0].cpus, (0, 1)), Share(whole.nodes[1].cpus, (2, 3))]
    # Both GPUs are on one node: its cores are for both shards, and so are those of the other.
    shares = shares_of(machine(nodes=2, gpus=[1, 1]), 2)
    assert [len(share.cpus) for share in shares] == [8, 8]
    assert not set(shares[0].cpus) & set(shares[1].cpus)


def test_if_there_are_fewer_gpus_than_shards_several_share_one() -> None:
    assert [share.gpus for share in shares_of(machine(gpus=[0]), 2)] == [(0,), (0,)]
    assert [share.gpus for share in shares_of(machine(gpus=[0, 0]), 3)] == [(0,), (1,), (0,)]


@pytest.mark.parametrize("whole", [machine(cores=2), machine(cores=4, quota=2.0)])
def test_where_nothing_is_bound_each_shard_may_use_every_cpu(whole: Machine) -> None:
    assert [share.cpus for share in shares_of(whole, 2)] == [whole.cpus.allowed] * 2


def test_if_a_shard_would_get_no_core_nothing_is_divided() -> None:
    whole = machine(cores=4)
    assert [share.cpus for share in shares_of(whole, 5)] == [whole.cpus.allowed] * 5


def test_a_shard_sees_its_own_part_of_the_machine() -> None:
    whole = machine(nodes=2, gpus=[0, 1])
    part = machine_of(whole, shares_of(whole, 2)[1])
    assert part.cpus.allowed == whole.nodes[1].cpus
    assert part.cpus.core(part.cpus.allowed[-1]) == whole.cpus.core(part.cpus.allowed[-1])
    assert [node.number for node in part.nodes] == [1]
    assert part.gpus == whole.gpus[1:]


def test_the_processes_of_a_shard_see_its_gpus_alone() -> None:
    whole = machine(gpus=[0, 0, 0, 0])
    second = shares_of(whole, 2)[1]
    assert visible_to(second, whole, None) == "2,3"
    assert visible_to(second, whole, "GPU-a, GPU-b,GPU-c, GPU-d") == "GPU-c,GPU-d"
    assert visible_to(second, machine(), None) is None
