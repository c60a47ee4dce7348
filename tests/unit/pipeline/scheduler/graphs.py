"""Plans of a few shapes, made by hand, and what a pipeline of them must answer.

Every tensor is 16 bytes. A stage's output is a hash of the stage, the output and the bytes of its
inputs, so a swapped, torn or reused slot anywhere on the way gives a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from pipeline.graph.plan import INGRESS, BatchPlan, Edge, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.graph.pools import fields_of, pools_of
from pipeline.graph.wiring import Wiring
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Batch

TENSOR_BYTES = 16

#: A request whose first input begins with this byte is refused by the first stage that reads that input.
BAD = 0xBB

#: name -> inputs ("producer.tensor"), outputs ("name", or "name=input" for an alias), as in a config.
Graph = tuple[tuple[str, ...], Mapping[str, tuple[str, str]], Mapping[str, str]]

GRAPHS: dict[str, Graph] = {
    "chain": (
        ("x",),
        {"a": ("ingress.x", "t"), "b": ("a.t", "t"), "c": ("b.t", "t")},
        {"t": "c.t"},
    ),
    "relays": (
        ("x",),
        {"a": ("ingress.x", "t=0"), "b": ("a.t", "t=0"), "c": ("b.t", "t=0")},
        {"t": "c.t"},
    ),
    "relay between": (
        ("x",),
        {"a": ("ingress.x", "t"), "r": ("a.t", "t=0"), "c": ("r.t", "t")},
        {"t": "c.t"},
    ),
    "diamond": (
        ("x",),
        {"a": ("ingress.x", "t"), "b": ("a.t", "t"), "c": ("a.t", "t"), "d": ("b.t c.t", "t")},
        {"t": "d.t"},
    ),
    "two ends": (
        ("x",),
        {"a": ("ingress.x", "t"), "b": ("a.t", "t"), "c": ("a.t", "t u")},
        {"b": "b.t", "c": "c.u", "a": "a.t"},
    ),
    "early outputs": (
        ("x", "y"),
        {"a": ("ingress.x", "p q"), "b": ("a.p ingress.y", "r"), "c": ("b.r a.q ingress.x", "z")},
        {"z": "c.z", "q": "a.q", "y": "ingress.y"},
    ),
}


def make_plan(
    graph: str, *, replicas: int = 1, max_batch: int = 1, delay_ms: float = 0.0, slots: int = 4, credits: int = 2,
    tight: bool = False,
) -> Plan:
    """The plan of one of GRAPHS.

    Args:
        tight: every stage has but one slot more than an answer may hold, so that slots run out before credits do.
    """
    inputs, wanted, outputs = GRAPHS[graph]
    real: dict[str, Edge] = {f"{INGRESS}.{name}": Edge(INGRESS, name) for name in inputs}
    after: dict[str, tuple[str, ...]] = {}
    stages: list[StagePlan] = []
    for name, (sources, makes) in wanted.items():
        edges = tuple(real[source] for source in sources.split())
        takes = tuple(_spec(f"in{index}") for index in range(len(edges)))
        gives = []
        for text in makes.split():
            output, _, alias = text.partition("=")
            gives.append(_spec(output, f"in{alias}" if alias else None))
            real[f"{name}.{output}"] = edges[int(alias)] if alias else Edge(name, output)
        first = {source.partition(".")[0] for source in sources.split()} | {edge.producer for edge in edges}
        after[name] = tuple(stage.name for stage in stages if stage.name in first)
        stages.append(
            StagePlan(
                name=name,
                use="tests:Hash",
                options={},
                inputs=takes,
                edges=edges,
                after=after[name],
                outputs=tuple(gives),
                fields=fields_of(gives),
                batch=BatchPlan(max_batch, delay_ms),
                credits=credits,
                workers=tuple(WorkerPlan(name, replica) for replica in range(replicas)),
            )
        )
    answer = tuple((name, real[source]) for name, source in outputs.items())
    wiring = Wiring(tuple(wanted), {stage.name: stage.edges for stage in stages}, after, answer)
    specs = tuple(_spec(name) for name in inputs)
    pools = pools_of(specs, stages, wiring, slots)
    if tight:
        kept = {edge.producer for _, edge in answer}
        pools = tuple(
            pool if "/" in pool.name else PoolPlan(pool.name, pool.slot_bytes, 1 + slots * (pool.name in kept))
            for pool in pools
        )
    return Plan("demo", "demo.yaml", ".", specs, tuple(stages), answer, pools, segment_kind="local")


def _spec(name: str, alias: str | None = None) -> TensorSpec:
    return TensorSpec(name, "uint8", (TENSOR_BYTES,), alias_of=alias)


def compute(stage: str, output: str, inputs: Sequence[bytes]) -> bytes:
    """The bytes of one output of one stage."""
    return blake2b(b"\0".join((stage.encode(), output.encode(), *inputs)), digest_size=TENSOR_BYTES).digest()


class Hash:
    """The stage that every stage of these plans is; aliases are passed on untouched."""

    def __init__(self, plan: StagePlan) -> None:
        self._name = plan.name
        self.inputs: Sequence[TensorSpec] = plan.inputs
        self.outputs: Sequence[TensorSpec] = plan.outputs
        self._makes = [field.spec.name for field in plan.fields]

    def process(self, batch: Batch) -> None:
        taken = [batch.rows(spec.name) for spec in self.inputs]
        for row in range(len(batch)):
            inputs = [views[row].tobytes() for views in taken]
            if any(data[0] == BAD and data[1:8] == data[8:15] for data in inputs):
                raise BadInput("a bad one")
            for name in self._makes:
                batch.out(row, name)[...] = np.frombuffer(compute(self._name, name, inputs), np.uint8)


def expected_answer(plan: Plan, inputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the pipeline must answer to these inputs."""
    values = {Edge(INGRESS, name): data for name, data in inputs.items()}
    for stage in plan.stages:
        taken = [values[edge] for edge in stage.edges]
        for field in stage.fields:
            values[Edge(stage.name, field.spec.name)] = compute(stage.name, field.spec.name, taken)
    return {name: values[edge] for name, edge in plan.outputs}
