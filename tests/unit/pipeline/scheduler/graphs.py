"""Plans of a few shapes, made by hand, and the stages of them.

Every tensor is 16 bytes, or up to 16 times that. A stage's output is a hash of the stage, the output and the bytes of its
inputs, so a swapped, torn or reused slot anywhere on the way gives a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from pipeline.graph.plan import INGRESS, BatchPlan, Edge, Plan, PoolPlan, StagePlan, When, WorkerPlan
from pipeline.graph.pools import pools_of, size_classes, sized_stages
from pipeline.graph.slots import fields_of
from pipeline.graph.wiring import Wiring
from pipeline.wire.limits import FEW_SLOTS
from shm.layout import ceil_div, round_up
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Batch

TENSOR_BYTES = 16

#: The first stage that reads the first input of a request refuses the request if the input begins with this byte.
BAD = 0xBB

#: name -> inputs, outputs and perhaps a condition, as in a config. If what is answered is made for each child, each child
#: is answered by itself. An input is "producer.tensor", with "*" if it takes
#: many, "?" if it is optional. An output is its name, with "=0" if it is an alias of the first input, "*3" if it is up
#: to 3 tensors, "!" if a condition may ask for it, "~" if its size varies; a graph with an output of varying size has
#: slots of three sizes wherever it may. If the graph's name begins with "rows", its requests may carry `ROWS`.
Graph = tuple[tuple[str, ...], Mapping[str, tuple[str, ...]], Mapping[str, str]]

MANY = 3
ROWS = 3

#: The most that a tensor of varying size is, in multiples of TENSOR_BYTES.
TIMES = 16

#: Outputs of this name hold for about half of the requests.
CONDITION = "c"

#: Outputs of this name come in parts, none to three of them.
PARTS = "parts"

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
    "fan out": (
        ("x",),
        {"a": ("ingress.x", "t u*3"), "b": ("a.u", "r"), "c": ("b.r* a.t", "z")},
        {"z": "c.z"},
    ),
    "two steps for each": (
        ("x",),
        {
            "a": ("ingress.x", "p u*3"),
            "b": ("a.u a.p", "s"),
            "c": ("b.s ingress.x", "r"),
            "d": ("c.r* a.u* b.s*", "z"),
        },
        {"z": "d.z", "p": "a.p"},
    ),
    "fan out within": (
        ("x",),
        {
            "a": ("ingress.x", "u*2"),
            "b": ("a.u", "v*2"),
            "c": ("b.v a.u", "w"),
            "d": ("c.w* b.v*", "y"),
            "e": ("d.y*", "z"),
        },
        {"z": "e.z"},
    ),
    "two fan outs": (
        ("x",),
        {
            "a": ("ingress.x", "u*3"),
            "b": ("ingress.x", "v*3"),
            "c": ("a.u", "r"),
            "d": ("b.v", "s"),
            "e": ("c.r* d.s*", "z"),
        },
        {"z": "e.z"},
    ),
    "relay within": (
        ("x",),
        {"a": ("ingress.x", "u*3"), "r": ("a.u", "t=0"), "j": ("r.t*", "z")},
        {"z": "j.z"},
    ),
    "either or": (
        ("x",),
        {
            "a": ("ingress.x", "t c!"),
            "b": ("a.t", "r", "a.c"),
            "d": ("a.t", "s", "not a.c"),
            "e": ("b.r? d.s?", "z"),
        },
        {"z": "e.z"},
    ),
    "perhaps an answer": (
        ("x",),
        {"a": ("ingress.x", "t c!"), "b": ("a.t", "r", "a.c"), "d": ("b.r", "s")},
        {"t": "a.t", "s": "d.s"},
    ),
    "perhaps for each": (
        ("x",),
        {
            "a": ("ingress.x", "u*3"),
            "b": ("a.u", "t c!"),
            "g": ("b.t", "w", "b.c"),
            "d": ("g.w*? b.t*", "z"),
        },
        {"z": "d.z"},
    ),
    "perhaps a fan out": (
        ("x",),
        {
            "a": ("ingress.x", "t c!"),
            "f": ("a.t", "u*2", "a.c"),
            "g": ("f.u", "r"),
            "h": ("g.r*? a.t", "z"),
        },
        {"z": "h.z"},
    ),
    "rows": (
        ("x",),
        {"a": ("ingress.x", "t"), "b": ("a.t", "t"), "c": ("b.t", "t")},
        {"t": "c.t"},
    ),
    "rows of several tensors": (
        ("x", "y"),
        {"a": ("ingress.x ingress.y", "t u"), "r": ("a.t", "t=0"), "b": ("r.t a.u ingress.y", "v w")},
        {"v": "b.v", "w": "b.w", "u": "a.u", "x": "ingress.x"},
    ),
    "parts": (
        ("x",),
        {"a": ("ingress.x", "t"), "b": ("a.t", "t"), "c": ("b.t ingress.x", "parts")},
        {"z": "c.parts", "t": "a.t"},
    ),
    "parts of what was joined": (
        ("x",),
        {"a": ("ingress.x", "u*3"), "b": ("a.u", "r"), "c": ("b.r* a.u*", "parts")},
        {"z": "c.parts"},
    ),
    "each child": (
        ("x",),
        {"a": ("ingress.x", "t u*3"), "b": ("a.u a.t", "r"), "c": ("b.r", "s")},
        {"s": "c.s"},
    ),
    "each child perhaps": (
        ("x",),
        {"a": ("ingress.x", "u*3"), "b": ("a.u", "s c!"), "d": ("b.s ingress.x", "t", "b.c")},
        {"s": "b.s", "t": "d.t"},
    ),
    "each child joins": (
        ("x",),
        {"a": ("ingress.x", "u*2"), "b": ("a.u", "v*2"), "c": ("b.v a.u", "w"), "d": ("c.w* b.v*", "y")},
        {"y": "d.y"},
    ),
    "each child of what was joined": (
        ("x",),
        {
            "a": ("ingress.x", "u*3"),
            "b": ("a.u", "r"),
            "c": ("b.r* a.u*", "v*3"),
            "d": ("c.v", "p"),
            "e": ("c.v", "q"),
            "f": ("d.p e.q", "z"),
        },
        {"z": "f.z", "p": "d.p"},
    ),
    "sizes": (
        ("x",),
        {"a": ("ingress.x", "t~"), "b": ("a.t", "t~ u"), "c": ("b.t b.u a.t", "t~"), "d": ("c.t", "z")},
        {"z": "d.z"},
    ),
    "sizes before a fan out": (
        ("x",),
        {
            "a": ("ingress.x", "p~"),
            "b": ("a.p", "t u~*3"),
            "c": ("b.u a.p", "s~"),
            "d": ("c.s", "r~"),
            "e": ("d.r* b.t", "y~"),
            "f": ("e.y", "z"),
        },
        {"z": "f.z"},
    ),
    "sizes and conditions": (
        ("x",),
        {
            "a": ("ingress.x", "t~ c!"),
            "b": ("a.t", "r~", "a.c"),
            "d": ("b.r? a.t", "s~"),
            "e": ("d.s", "z"),
        },
        {"z": "e.z"},
    ),
}


def make_plan(
    graph: str, *, replicas: int = 1, max_batch: int = 1, delay_ms: float = 0.0, slots: int = 4, credits: int = 2,
    tight: bool = False, processes: int | None = None,
) -> Plan:
    """The plan of one of GRAPHS.

    Args:
        processes: the stages are dealt out to so many, like cards; None: each has workers of its own.
        tight: every stage has but one slot more than an answer may hold, so that slots run out before credits do;
            where they are of several sizes, one of each.
    """
    inputs, wanted, outputs = GRAPHS[graph]
    real: dict[str, Edge] = {f"{INGRESS}.{name}": Edge(INGRESS, name) for name in inputs}
    gave: dict[str, TensorSpec] = {f"{INGRESS}.{name}": _spec(name) for name in inputs}
    scopes: dict[str, tuple[str, ...]] = {INGRESS: ()}
    stages: list[StagePlan] = []
    for name, (sources, makes, *condition) in wanted.items():
        written = [source.rstrip("*?") for source in sources.split()]
        takes = [
            _spec(f"in{index}", None, 9 if "*" in source else None, "?" in source, not gave[source.rstrip("*?")].is_static)
            for index, source in enumerate(sources.split())
        ]
        when = None
        if condition:
            asked = condition[0].removeprefix("not ")
            when = When(real[asked], condition[0].startswith("not "))
            written.append(asked)
        scope: tuple[str, ...] = ()
        for index, source in enumerate(written):
            producer = source.partition(".")[0]
            takes_many = index < len(takes) and takes[index].many is not None
            if gave[source].many is None:
                seen = scopes[producer][:-1] if takes_many else scopes[producer]
            else:
                seen = scopes[producer] if takes_many else (*scopes[producer], producer)
            scope = max(scope, seen, key=len)
        scopes[name] = scope
        edges = tuple(real[source] for source in written[: len(takes)])
        gives = []
        for text in makes.split():
            output, _, alias = text.partition("=")
            output, _, many = output.rstrip("!").partition("*")
            output, varies = output.rstrip("~"), output.endswith("~")
            gives.append(
                _spec(
                    output, f"in{alias}" if alias else None, int(many) if many else None, varies=varies or output == PARTS
                )
            )
            real[f"{name}.{output}"] = edges[int(alias)] if alias else Edge(name, output)
            gave[f"{name}.{output}"] = gives[-1]
        first = {source.partition(".")[0] for source in written} | {edge.producer for edge in edges}
        stages.append(
            StagePlan(
                name=name,
                use="tests:Hash",
                options={},
                inputs=tuple(takes),
                edges=edges,
                after=tuple(stage.name for stage in stages if stage.name in first),
                outputs=tuple(gives),
                fields=fields_of(gives),
                batch=BatchPlan(max_batch, delay_ms),
                credits=credits,
                workers=tuple(WorkerPlan(name, replica) for replica in range(replicas)),
                scope=scope,
                when=when,
                host=name if processes is None else list(wanted)[len(stages) % processes],
                sources=tuple(source.partition(".")[0] for source in written[: len(takes)]),
            )
        )
    answer = tuple((name, real[source]) for name, source in outputs.items())
    after = {stage.name: stage.after for stage in stages}
    wiring = Wiring(tuple(wanted), {stage.name: stage.edges for stage in stages}, after, answer)
    specs = tuple(_spec(name) for name in inputs)
    rows = ROWS if graph.startswith("rows") else 1
    pools = pools_of(specs, stages, wiring, slots, rows)
    kept = {edge.producer for _, edge in answer}
    varying = any(not spec.is_static and spec.name != PARTS for spec in gave.values())
    sized = sized_stages(stages, kept) if varying else set()
    if tight:
        joined = {stage.name for stage in stages if stage.scope}
        pools = tuple(
            _at_least(pool, pool.producer in kept, slots)
            if rows > 1 and pool.producer != INGRESS
            else pool
            if "/" in pool.name
            else PoolPlan(
                pool.name,
                pool.slot_bytes,
                3
                if pool.name in sized
                else 1 + slots * (MANY if pool.name in joined else 1)
                if pool.name in kept
                else MANY
                if pool.name in joined
                else 1,
            )
            for pool in pools
        )
    if varying:
        assert sized, f"{graph}: no stage may have slots of several sizes"
        pools = tuple(one for pool in pools for one in (_in_sizes(pool) if pool.name in sized and pool.slots > 2 else [pool]))
    written_outputs = tuple(source.partition(".")[0] for source in outputs.values())
    return Plan(
        "demo", "demo.yaml", ".", specs, tuple(stages), answer, pools, segment_kind="local", sources=written_outputs,
        answer_each_child=any(scopes[source] for source in written_outputs), rows=rows,
    )  # fmt: skip


def _at_least(pool: PoolPlan, answered: bool, slots: int) -> PoolPlan:
    """One of the two pools of a stage whose requests may carry several rows, with one slot more than answers hold."""
    few = slots if pool.name.endswith("/0") else max(FEW_SLOTS, ceil_div(slots, ROWS))
    return PoolPlan(pool.name, pool.slot_bytes, 1 + few * answered)


def _in_sizes(pool: PoolPlan) -> list[PoolPlan]:
    """As `pipeline.graph.pools.size_classes`, of slots that are too small for it."""
    counts = [count for _, count in size_classes(1 << 30, pool.slots)] if pool.slots > 3 else [1, 1, 1]
    sizes = [pool.slot_bytes // 4, pool.slot_bytes // 2, pool.slot_bytes]
    return [
        PoolPlan(f"{pool.name}/{number}", round_up(size), count)
        for number, (size, count) in enumerate(zip(sizes[-len(counts) :], counts))
    ]


def _spec(
    name: str, alias: str | None = None, many: int | None = None, optional: bool = False, varies: bool = False
) -> TensorSpec:
    shape, most = (("N",), {"N": TENSOR_BYTES * TIMES}) if varies else ((TENSOR_BYTES,), {})
    return TensorSpec(name, "uint8", shape, most, alias_of=alias, many=many, optional=optional)


Value = bytes | list[bytes | None] | None
"""A tensor, many of them, or None if the stage that makes it was skipped."""


def compute(stage: str, field: TensorSpec, inputs: Sequence[Value]) -> Value:
    """The bytes of one output of one stage."""
    parts = [stage.encode(), field.name.encode()]
    for data in inputs:
        parts += [b"[", *(b"-" if one is None else one for one in data), b"]"] if isinstance(data, list) else [data or b"-"]
    digest = blake2b(b"\0".join(parts), digest_size=TENSOR_BYTES).digest()
    if field.name == PARTS:
        return b"".join([blake2b(digest + bytes([n]), digest_size=TENSOR_BYTES).digest() for n in range(digest[0] % 4)])
    if field.many is not None:
        # From none to the most; the same for every output of many of one stage.
        parts.pop(1)
        count = blake2b(b"\0".join(parts)).digest()[0] % (field.many + 1)
        made = [blake2b(digest + bytes([index]), digest_size=TENSOR_BYTES).digest() for index in range(count)]
        return [_as_long_as_it_says(field, one) for one in made]
    if field.name == CONDITION and digest[0] % 2:
        return bytes(TENSOR_BYTES)
    return _as_long_as_it_says(field, digest)


def _as_long_as_it_says(field: TensorSpec, digest: bytes) -> bytes:
    """The bytes of a tensor. If its size varies, it is within a quarter of the most in seven cases of eight."""
    return digest if field.is_static else digest * (1 + digest[-1] % (TIMES // 4 if digest[-2] % 8 else TIMES))


class Hash:
    """The stage of all these plans; it passes aliases on untouched.

    If it gets no memory, it blames the request.
    """

    def __init__(self, plan: StagePlan) -> None:
        self._name = plan.name
        self.inputs: Sequence[TensorSpec] = plan.inputs
        self.outputs: Sequence[TensorSpec] = plan.outputs
        self._makes = [field.spec for field in plan.fields]

    def process(self, batch: Batch) -> None:
        taken = [batch.rows(spec.name) for spec in self.inputs]
        for row in range(len(batch)):
            inputs = [_bytes(views[row]) for views in taken]
            if any(isinstance(d, bytes) and d[0] == BAD and d[1:8] == d[8:15] for d in inputs):
                raise BadInput("a bad one")
            for spec in self._makes:
                made = compute(self._name, spec, inputs)
                try:
                    batch.write(row, spec.name, _arrays(made))
                except Exception as error:
                    raise BadInput(f"no room for {spec.name}") from error


class HashInParts(Hash):
    """The same, if the stage's only output comes in parts."""

    def process(self, batch: Batch) -> Iterator[None]:  # type: ignore[override]
        (spec,) = self._makes
        taken = [batch.rows(each.name) for each in self.inputs]
        answers: list[list[bytes]] = []
        for row in range(len(batch)):
            inputs = [_bytes(views[row]) for views in taken]
            if any(isinstance(d, bytes) and d[0] == BAD and d[1:8] == d[8:15] for d in inputs):
                batch.fail(row, BadInput("a bad one"))
            answers.append(parts_of(compute(self._name, spec, inputs)))
        for number in range(max(len(parts) for parts in answers)):
            for row, parts in enumerate(answers):
                if number < len(parts) and row not in batch.failed:
                    batch.write(row, spec.name, np.frombuffer(parts[number], np.uint8))
            yield


def stage_of(plan: StagePlan) -> Hash:
    """The stage of a plan."""
    return HashInParts(plan) if [field.spec.name for field in plan.fields] == [PARTS] else Hash(plan)


def parts_of(made: Value) -> list[bytes]:
    """The parts of an output that comes in parts."""
    assert isinstance(made, bytes)
    return [made[at : at + TENSOR_BYTES] for at in range(0, len(made), TENSOR_BYTES)]


def _arrays(made: Value) -> Any:
    if isinstance(made, list):
        return [_arrays(one) for one in made]
    return np.frombuffer(made or b"", np.uint8)


def _bytes(view: Any) -> Value:
    if isinstance(view, list):
        return [None if one is None else one.tobytes() for one in view]
    return None if view is None else view.tobytes()
