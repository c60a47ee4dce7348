"""Diagram: a plan as boxes and arrows, without how they are drawn. Pure.

`pipeline.drawing.mermaid` and `pipeline.drawing.svg` draw it; `pipeline graph` prints what they draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.graph.plan import INGRESS, Edge, Plan, StagePlan
from stages.spec import TensorSpec

__all__ = ["AFTER", "ANSWER", "MANY", "ONE", "WHEN", "Arrow", "Box", "Diagram", "make_diagram"]

ANSWER = ""
"""The key of the box that all requests end in; no stage can be named so."""

ONE = "one"
"""A kind of arrow: one tensor a request."""
MANY = "many"
"""Many tensors a request: they fan out, are joined, or go on as a list."""
WHEN = "when"
"""A tensor that decides whether the stage runs."""
AFTER = "after"
"""No tensor, only an order."""


@dataclass(frozen=True, slots=True)
class Box:
    """The ingress, a stage, or the answer."""

    key: str
    """The stage's name, INGRESS or ANSWER."""
    lines: tuple[str, ...]
    """The first is its name."""
    group: str | None = None
    """The stage whose workers this one runs in too; None if it is alone in its own."""

    @property
    def is_stage(self) -> bool:
        """False for the two ends."""
        return self.key not in (INGRESS, ANSWER)


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the stage that makes tensors to the one that takes them."""

    source: str
    target: str
    kind: str
    lines: tuple[str, ...]
    """A tensor a line, or the condition."""


@dataclass(frozen=True, slots=True)
class Diagram:
    """The boxes and arrows to draw: each box after those that its arrows come from."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order of their first box."""
        return tuple(dict.fromkeys(box.group for box in self.boxes if box.group is not None))


def make_diagram(plan: Plan) -> Diagram:
    """The boxes and arrows of a plan."""
    hosts = [stage.host for stage in plan.stages if stage.host != stage.name]
    boxes = [Box(INGRESS, (INGRESS,))]
    boxes += [Box(stage.name, _about(stage), stage.host if stage.host in hosts else None) for stage in plan.stages]
    boxes.append(Box(ANSWER, ("answer",)))
    found: dict[tuple[str, str, str], list[str]] = {}
    for source, target, kind, line in _arrows(plan):
        found.setdefault((source, target, kind), []).append(line)
    return Diagram(tuple(boxes), tuple(Arrow(*key, tuple(lines)) for key, lines in found.items()))


def _about(stage: StagePlan) -> tuple[str, ...]:
    lines = [stage.name, stage.use]
    if len(stage.workers) > 1:
        lines.append(f"{len(stage.workers)} replicas")
    if stage.batch.max_size > 1:
        lines.append(f"batches of up to {stage.batch.max_size}")
    if stage.scope:
        lines.append(f"for each child of {stage.scope[-1]}")
    return tuple(lines)


def _arrows(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """(source, target, kind, line)."""
    for stage in plan.stages:
        shown = {INGRESS}
        for spec, edge in zip(stage.inputs, stage.edges):
            given = plan.output_spec(edge)
            shown.add(edge.producer)
            kind = ONE if given.many is None and spec.many is None else MANY
            yield edge.producer, stage.name, kind, _tensor(edge, given, spec)
        if stage.when is not None:
            edge = stage.when.edge
            shown.add(edge.producer)
            condition = f"{edge.producer}.{edge.tensor}"
            yield edge.producer, stage.name, WHEN, f"when: {'not ' if stage.when.negated else ''}{condition}"
        for producer in stage.after:
            if producer not in shown:
                yield producer, stage.name, AFTER, "after"
    for name, edge in plan.outputs:
        given = plan.output_spec(edge)
        line = _tensor(edge, given, None)
        many = given.many is not None
        yield edge.producer, ANSWER, MANY if many else ONE, line if name == edge.tensor else f"{name} = {line}"


def _tensor(edge: Edge, given: TensorSpec, taken: TensorSpec | None) -> str:
    """One tensor of an arrow; `taken` is None for the answer, which takes all that there are."""
    shape = given.describe().rpartition(" x ")[2].replace("<=", "≤")
    text = f"{edge.tensor} {given.dtype} {shape}"
    if taken is not None and taken.many is not None:
        most = given.many or taken.many
        text = f"all {text}, up to {most}"
    elif given.many is not None:
        text = f"{'all' if taken is None else 'each'} {text}, up to {given.many}"
    return text + (", may be missing" if taken is not None and taken.optional else "")
