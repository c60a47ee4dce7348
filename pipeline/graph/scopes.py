"""Scopes: which stages run once for each child of a request, and what may be skipped. Pure.

`wiring` adds the stages one by one, in the order of the graph; see its drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.config.findings import Findings, NodePath
from pipeline.config.schema import PipelineConfig
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import INGRESS, Edge, When
from stages.spec import TensorSpec

__all__ = ["Scopes"]


class _Graph(Protocol):
    config: PipelineConfig
    index: dict[str, int]
    descriptions: Mapping[str, StageDescription]
    given: dict[str, dict[str, TensorSpec]]
    findings: Findings


class Scopes:
    """The scope of each stage that was added; what does not fit is noted in the findings of `graph`."""

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self.of: dict[str, tuple[str, ...]] = {}
        #: Stages that may be skipped, since they or what they need have a condition.
        self._conditional: set[str] = set()
        #: All stages that come before each.
        self._before: dict[str, set[str]] = {}

    def add(
        self, name: str, sources: Sequence[Edge], edges: Sequence[Edge], needs: set[str], when: When | None
    ) -> None:
        """One more stage; those that it needs have been added.

        Args:
            sources: its inputs as written.
            edges: the same, with aliases resolved.
            needs: the stages that come before it, as written.
        """
        graph = self._graph
        inputs = graph.descriptions[name].inputs
        scope: tuple[str, ...] = () if when is None else self.of[when.edge.producer]
        where = "when" if when is not None else ""
        for at, (spec, source, edge) in enumerate(zip(inputs, sources, edges)):
            seen = self._seen(name, at, spec, source, edge)
            if seen is None:
                continue
            if seen[: len(scope)] != scope and scope[: len(seen)] != seen:
                self._note(
                    name,
                    at,
                    f"{name} would run once for each child of {scope[-1]} ({where}) and of {seen[-1]} "
                    f"({spec.name}); one of them must be joined first, by a stage that takes many",
                )
            elif len(seen) > len(scope):
                scope, where = seen, spec.name
            if spec.many is not None and source.producer in self._conditional and not spec.optional:
                self._note(
                    name, at, f"{source.producer} may be skipped for some children; {name}.{spec.name} must be optional"
                )
        self.of[name] = scope
        self._before[name] = needs.union(*(self._before[other] for other in needs))
        self._check_its_own_end(name)
        self._check_needs(name, needs)
        required = {s.producer for spec, s in zip(inputs, sources) if not spec.optional}
        if when is not None or required & self._conditional:
            self._conditional.add(name)

    def _check_its_own_end(self, name: str) -> None:
        """A scope opens when everything that it needs from outside is there: none of its stages can wait for the
        scope's own end."""
        scope = self.of[name]
        for other in self._before[name]:
            ended = next((inner for inner in self._before[other] if self._is_inside(inner, scope)), None)
            if len(self.of[other]) < len(scope) and ended is not None:
                self._note(
                    name,
                    None,
                    f"{name} runs for each child of {scope[-1]} and waits for {other}, which joins them ({ended}); "
                    f"stages for each child after {other} need a fan-out of their own",
                )
                break

    def _check_needs(self, name: str, needs: set[str]) -> None:
        """A stage may wait for stages of its own scope, of one around it, or for all of one that opens inside of it."""
        scope = self.of[name]
        for other in needs:
            theirs = self.of[other]
            if scope[: len(theirs)] != theirs and theirs[: len(scope)] != scope:
                self._note(name, None, f"{name} runs for each child of {scope[-1]}; {other} for each of {theirs[-1]}")

    def check_outputs(self, outputs: Sequence[tuple[str, Edge]], edges: Sequence[Edge]) -> None:
        """An answer carries what a request has one of; with `answer_each_child`, what each child has one of.

        Args:
            outputs: as written.
            edges: the same, with aliases resolved.
        """
        if self._graph.config.answer_each_child:
            self._check_children_outputs(outputs, edges)
            return
        for at, (name, edge) in enumerate(outputs):
            spec = self._graph.given[edge.producer][edge.tensor]
            fans_out = edge.producer if spec.many is not None else None
            if edge.producer != INGRESS and self.of[edge.producer]:
                fans_out = self.of[edge.producer][-1]
            if fans_out is not None:
                self._note_output(
                    name,
                    at,
                    f"{edge.producer}.{edge.tensor} is made once for each child of {fans_out}; an answer carries what "
                    "a stage has joined, one that takes many; or answer_each_child: true sends the children one by one",
                )

    def _check_children_outputs(self, outputs: Sequence[tuple[str, Edge]], edges: Sequence[Edge]) -> None:
        """Each child has all outputs, and a slot of its own for each of them."""
        if not outputs:
            self._graph.findings.add(("answer_each_child",), "there are no outputs; name tensors that each child has")
        first = next((scope for _, edge in outputs if (scope := self.of.get(edge.producer, ()))), ())
        for at, ((name, edge), made) in enumerate(zip(outputs, edges)):
            tensor = f"{edge.producer}.{edge.tensor}"
            scope = self.of.get(edge.producer, ())
            if not scope or self._graph.given[edge.producer][edge.tensor].many is not None:
                why = "is not made once for each child"
            elif len(scope) > 1:
                why = f"is made for each child of {scope[-1]}, within each of {scope[0]}; join the inner ones"
            elif scope != first:
                why = f"is made for each child of {scope[0]}, and another output for each of {first[0]}"
            elif self.of.get(made.producer, ()) != scope:
                why = f"is {made.producer}.{made.tensor}, passed on, and not made for each child"
            else:
                continue
            self._note_output(
                name,
                at,
                f"{tensor} {why}; answer_each_child takes outputs that stages make for each child of one fan-out",
            )

    def _note_output(self, name: str, at: int, message: str) -> None:
        written = self._graph.config.outputs
        path: NodePath = ("outputs",) if written is None else ("outputs", name if name in written else at)
        self._graph.findings.add(path, message)

    def _is_inside(self, name: str, scope: tuple[str, ...]) -> bool:
        return bool(scope) and self.of[name][: len(scope)] == scope

    def _seen(
        self, name: str, at: int, spec: TensorSpec, source: Edge, edge: Edge
    ) -> tuple[str, ...] | None:
        """The scope that a stage must be in to take this input so; None if it cannot, which is noted."""
        given = self._graph.given[source.producer][source.tensor]
        scope = () if source.producer == INGRESS else self.of[source.producer]
        if spec.many is None:
            return scope if given.many is None else (*scope, source.producer)
        if given.many is None and not scope:
            self._note(
                name,
                at,
                f"{name}.{spec.name} takes many, and a request has one {source.producer}.{source.tensor}: "
                "no stage before it fans out, by an output of many",
            )
            return None
        real = self._graph.given[edge.producer][edge.tensor]
        if given.many is None and edge != source and edge.producer != scope[-1] and (
            edge.producer == INGRESS or self.of[edge.producer] != scope
        ):
            self._note(name, at, f"every child has the same {source.producer}.{source.tensor}: it is {edge.producer}'s")
            return None
        fan = given if given.many is not None else self._fan_of(scope[-1])
        if fan.many is not None and spec.many is not None and fan.many > spec.many:
            self._note(name, at, f"up to {fan.many} of {source.producer}.{source.tensor}; {name} takes {spec.many}")
        if real.many is not None and given.many is None:
            return scope[:-1]
        return scope if given.many is not None else scope[:-1]

    def _fan_of(self, stage: str) -> TensorSpec:
        """The output by which a stage fans out."""
        return next(spec for spec in self._graph.given[stage].values() if spec.many is not None)

    def _note(self, name: str, at: int | None, message: str) -> None:
        graph = self._graph
        index = graph.index[name]
        inputs = graph.config.stages[index].inputs
        path: NodePath = ("stages", index)
        if at is not None and inputs is not None:
            key = graph.descriptions[name].inputs[at].name if isinstance(inputs, dict) else at
            path = ("stages", index, "inputs", key)
        graph.findings.add(path, message)
