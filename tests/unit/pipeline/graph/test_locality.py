"""Pools are touched from CPUs near their readers."""

from __future__ import annotations

import pytest

from pipeline.graph.locality import near_cpus, near_node
from pipeline.graph.plan import BatchPlan, Edge, Plan, StagePlan, WorkerPlan
from stages.spec import TensorSpec

SPEC = TensorSpec("x", "uint8", (4,))


def stage(name: str, producer: str, *workers: tuple[int | None, tuple[int, ...], str]) -> StagePlan:
    plans = tuple(
        WorkerPlan(name, replica, cpus, node, device=device) for replica, (node, cpus, device) in enumerate(workers)
    )
    return StagePlan(name, "m:C", {}, (SPEC,), (Edge(producer, "x"),), (), (SPEC,), (), BatchPlan(), 1, plans)


@pytest.fixture
def plan() -> Plan:
    """Decoders on both nodes, a model on the GPU of node 1, a watcher of its pictures on node 0, an end anywhere."""
    return Plan("demo", "demo.yaml", ".", (SPEC,), (
        stage("decode", "ingress", (0, (0, 1), "cpu"), (1, (8, 9), "cpu")),
        stage("watch", "decode", (0, (2,), "cpu")),
        stage("infer", "decode", (1, (10, 11), "cuda:0")),
        stage("end", "infer", (None, (), "cpu")),
    ), (), ())  # fmt: skip


@pytest.mark.parametrize(
    ("pool", "node", "cpus"),
    [
        ("ingress/0", None, ()),  # readers on two nodes
        ("decode", 1, (10, 11)),  # the GPU counts before the watcher
        ("decode/1", 1, (10, 11)),  # slots of several sizes
        ("infer", None, ()),
        ("end", None, ()),  # only clients read it
        ("recorder", None, ()),
    ],
)
def test_a_pool_is_near_its_readers_where_they_are_together(
    plan: Plan, pool: str, node: int | None, cpus: tuple[int, ...]
) -> None:
    assert (near_node(plan, pool), near_cpus(plan, pool)) == (node, cpus)
