"""The machine that the pipeline finds in its container."""

from __future__ import annotations

from pipeline.deploying.container import container_machine
from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.memory import MemoryLimits
from pipeline.topology.numa import NumaNode

HERE = Machine(
    Cpus(tuple(range(64))),
    (NumaNode(0, tuple(range(32))), NumaNode(1, tuple(range(32, 64)))),
    MemoryLimits(shm_free=1),
    (Gpu("0000:3b:00.0", minor=0),),
)


def test_what_is_not_said_is_this_machines() -> None:
    machine = container_machine(HERE, None, None)
    assert (machine.cpus, machine.nodes, machine.gpus) == (HERE.cpus, HERE.nodes, HERE.gpus)


def test_this_machines_memory_does_not_count_since_the_limits_are_what_is_computed() -> None:
    assert container_machine(HERE, None, None).memory == MemoryLimits()


def test_a_cpu_limit_is_a_quota_over_more_cpus_so_nothing_is_bound() -> None:
    for cpus in (0.5, 1, 2, 2.5, 16):
        machine = container_machine(HERE, cpus, None)
        assert machine.cpus.is_shared
        assert machine.cpus.effective == max(1, int(cpus))
        assert [node.cpus for node in machine.nodes] == [machine.cpus.allowed]


def test_gpus_that_are_said_are_there_and_0_says_what_to_do() -> None:
    assert [gpu.minor for gpu in container_machine(HERE, None, 3).gpus] == [0, 1, 2]
    none = container_machine(HERE, None, 0)
    assert none.gpus == ()
    assert none.why_no_gpu == "the container gets none: give it one with --gpus 1"
