"""Wiring: which tensor goes where, in which order, checked edge by edge. Pure.

    config (`inputs:`, `after:`, `outputs:`) + what the stages declare  ->  Wiring

An output that is an alias of an input has no bytes: its readers read the bytes of the real producer, after the stage
that passed them on.

If a stage gives many tensors, a stage that takes one of them runs once for each: it lies in the *scope* of the first. A
stage that takes many of what is made in a scope lies outside of it again. Scopes may be nested:

    decode ──▶ crop ──many──▶ read ──▶ check ──▶ (many) join            scopes: read, check: (crop,); else ()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pipeline.config.findings import Findings, NodePath
from pipeline.config.loader import LoadedConfig
from pipeline.config.schema import StageConfig, as_references
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import INGRESS, Edge, When
from pipeline.graph.scopes import Scopes
from stages.hints import did_you_mean
from stages.spec import TensorSpec

__all__ = ["Wiring", "wire"]


class Wiring(msgspec.Struct, frozen=True):
    """The checked graph."""

    order: tuple[str, ...]
    """The stages; each comes after those that it needs, and otherwise in the order of the config."""
    edges: Mapping[str, tuple[Edge, ...]]
    """For each stage, where each of its inputs comes from; aliases are resolved."""
    after: Mapping[str, tuple[str, ...]]
    """For each stage, those that must have finished before it, in `order`."""
    outputs: tuple[tuple[str, Edge], ...]
    """What an answer carries; aliases are resolved."""
    sources: Mapping[str, tuple[Edge, ...]] = msgspec.field(default_factory=dict)
    """For each stage, its inputs as they are written; an alias is the stage that passes it on."""
    output_sources: tuple[str, ...] = ()
    """For each of `outputs`, the stage as it is written."""
    scopes: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """For each stage, the stages that fan out on the way to it, outermost first."""
    when: Mapping[str, When] = msgspec.field(default_factory=dict)
    """The conditions of the stages that have one."""


def wire(loaded: LoadedConfig, descriptions: Mapping[str, StageDescription]) -> Wiring:
    """Connect the stages of a config.

    Raises:
        ConfigError: with everything that does not fit, and where it was written.
    """
    wirer = _Wirer(loaded, descriptions)
    findings = wirer.findings
    sources = {stage.name: wirer.sources(index, stage) for index, stage in enumerate(loaded.config.stages)}
    outputs = wirer.outputs()
    wirer.check_after()
    when = wirer.when()
    findings.refuse()
    needs = {
        stage.name: {edge.producer for edge in sources[stage.name]} - {INGRESS}
        | set(stage.after)
        | ({when[stage.name].edge.producer} if stage.name in when else set())
        for stage in loaded.config.stages
    }
    order = _in_order(loaded, needs, findings)
    findings.refuse()

    real: dict[Edge, Edge] = {}

    def resolved(edge: Edge) -> Edge:
        return real.get(edge, edge)

    edges: dict[str, tuple[Edge, ...]] = {}
    after: dict[str, tuple[str, ...]] = {}
    scopes = Scopes(wirer)
    for name in order:
        edges[name] = tuple(resolved(edge) for edge in sources[name])
        by_input = dict(zip((spec.name for spec in descriptions[name].inputs), edges[name]))
        for spec in descriptions[name].outputs:
            if spec.alias_of is not None:
                real[Edge(name, spec.name)] = by_input[spec.alias_of]
        # The passing stage stays in `needs`: its reader must not run before it.
        first = needs[name] | {edge.producer for edge in edges[name]} - {INGRESS}
        after[name] = tuple(other for other in order if other in first)
        wirer.check_edges(name, sources[name], edges[name])
        scopes.add(name, sources[name], edges[name], needs[name], when.get(name))
    scopes.check_outputs(outputs, tuple(resolved(edge) for _, edge in outputs))
    wirer.check_all_contribute(needs, {edge.producer for _, edge in outputs})
    findings.refuse()
    return Wiring(
        order,
        edges,
        after,
        tuple((name, resolved(edge)) for name, edge in outputs),
        sources,
        tuple(edge.producer for _, edge in outputs),
        scopes.of,
        when,
    )


class _Wirer:
    """The config's references, looked up among what the stages declare."""

    def __init__(self, loaded: LoadedConfig, descriptions: Mapping[str, StageDescription]) -> None:
        self.config = loaded.config
        self.index = {stage.name: index for index, stage in enumerate(loaded.config.stages)}
        self.descriptions = descriptions
        self.given: dict[str, dict[str, TensorSpec]] = {INGRESS: {spec.name: spec for spec in loaded.inputs}}
        for name, description in descriptions.items():
            self.given[name] = {spec.name: spec for spec in description.outputs}
        self.findings = loaded.findings()

    def sources(self, index: int, stage: StageConfig) -> tuple[Edge, ...]:
        """Where the inputs of one stage come from, as written; incomplete if there are findings."""
        wanted = self.descriptions[stage.name].inputs
        path: NodePath = ("stages", index, "inputs")
        if stage.inputs is None:
            return self._from_before(index, stage, wanted)
        if not isinstance(stage.inputs, dict):
            if len(stage.inputs) != len(wanted):
                self.findings.add(path, f"{_takes(stage, wanted)}, found {len(stage.inputs)}")
            references = list(enumerate(stage.inputs))
            edges = [self._edge(reference, (*path, at)) for at, reference in references]
            return tuple(edge for edge in edges if edge is not None)
        names = [spec.name for spec in wanted]
        for name in stage.inputs:
            if name not in names:
                hint = did_you_mean(name, names)
                self.findings.add((*path, name), f"{stage.use} has no input {name!r}{hint}", at_key=True)
        if missing := [name for name in names if name not in stage.inputs]:
            self.findings.add(path, f"{_takes(stage, wanted)}; nothing is said about {missing[0]}")
        found = [self._edge(stage.inputs[name], (*path, name)) for name in names if name in stage.inputs]
        return tuple(edge for edge in found if edge is not None)

    def _from_before(self, index: int, stage: StageConfig, wanted: Sequence[TensorSpec]) -> tuple[Edge, ...]:
        """The default: the stage listed before, or the ingress; by name, otherwise by order."""
        producer = self.config.stages[index - 1].name if index else INGRESS
        given = self.given[producer]
        names = [spec.name for spec in wanted]
        if all(name in given for name in names):
            return tuple(Edge(producer, name) for name in names)
        pairs = list(zip(names, given))
        # By order only if no name speaks against it: a tensor of the same name elsewhere is a mistake.
        if len(names) == len(given) and all(name == other or name not in given for name, other in pairs):
            return tuple(Edge(producer, other) for _, other in pairs)
        self.findings.add(
            ("stages", index, "inputs"),
            f"{_takes(stage, wanted)}, and {producer} gives {', '.join(given) or 'none'}; "
            f"say where each comes from, such as inputs: {{{names[0]}: {INGRESS}.{next(iter(self.given[INGRESS]))}}}",
        )
        return ()

    def outputs(self) -> tuple[tuple[str, Edge], ...]:
        """Name in the answer and tensor, as written."""
        path: NodePath = ("outputs",)
        if self.config.outputs is None:
            last = self.config.stages[-1].name
            return tuple((name, Edge(last, name)) for name in self.given[last])
        outputs: dict[str, Edge] = {}
        for key, reference in as_references(self.config.outputs):
            edge = self._edge(reference, (*path, key))
            if edge is None:
                continue
            name = key if isinstance(key, str) else edge.tensor
            if name in outputs:
                self.findings.add(
                    (*path, key),
                    f"{name!r} names {outputs[name].producer}.{name} already; give them names, "
                    f"such as outputs: {{{name}: {outputs[name].producer}.{name}, {name}2: {reference}}}",
                )
            outputs.setdefault(name, edge)
        return tuple(outputs.items())

    def _edge(self, reference: str, path: NodePath) -> Edge | None:
        producer, _, tensor = reference.partition(".")
        if producer not in self.given:
            self.findings.add(path, f"there is no stage {producer!r}{did_you_mean(producer, self.given)}")
            return None
        if tensor not in self.given[producer]:
            given = self.given[producer]
            what = "input" if producer == INGRESS else "output"
            self.findings.add(path, f"{producer} has no {what} {tensor!r}{did_you_mean(tensor, given)}")
            return None
        return Edge(producer, tensor)

    def check_after(self) -> None:
        for index, stage in enumerate(self.config.stages):
            for at, name in enumerate(stage.after):
                if name not in self.index:
                    hint = did_you_mean(name, self.index)
                    self.findings.add(("stages", index, "after", at), f"there is no stage {name!r}{hint}")

    def when(self) -> dict[str, When]:
        """The conditions, by stage, as written; those that cannot be told are noted."""
        conditions = {}
        for index, stage in enumerate(self.config.stages):
            if stage.when is None:
                continue
            path: NodePath = ("stages", index, "when")
            reference = stage.when.removeprefix("not ").strip()
            edge = self._edge(reference, path)
            if edge is None:
                continue
            spec = self.given[edge.producer][edge.tensor]
            if edge.producer == INGRESS or spec.alias_of is not None:
                self.findings.add(
                    path, f"{reference} is not made by a stage; a condition must be"
                )
            elif spec.many is not None:
                self.findings.add(path, f"{reference} is many tensors; a condition is one")
            else:
                conditions[stage.name] = When(edge, stage.when.startswith("not "))
        return conditions

    def check_edges(self, name: str, sources: Sequence[Edge], edges: Sequence[Edge]) -> None:
        """Compare each input with what its real producer gives."""
        stage = self.config.stages[self.index[name]]
        for at, (spec, source, edge) in enumerate(zip(self.descriptions[name].inputs, sources, edges)):
            misfit = spec.misfit_of_edge(self.given[edge.producer][edge.tensor])
            if misfit is not None:
                key = spec.name if isinstance(stage.inputs, dict) else at
                by_way = f" (through {source.producer}.{source.tensor})" if source != edge else ""
                self.findings.add(
                    ("stages", self.index[name], "inputs", *([] if stage.inputs is None else [key])),
                    f"{edge.producer}.{edge.tensor}{by_way} does not fit {name}.{spec.name}: {misfit}",
                )

    def check_all_contribute(self, needs: Mapping[str, set[str]], roots: Iterable[str]) -> None:
        """Refuse stages that the answer does not need."""
        wanted = set(roots)
        if self.config.outputs is None:
            # It may have no outputs, and then the last stage is what everything is for.
            wanted.add(self.config.stages[-1].name)
        waiting = list(wanted)
        while waiting:
            for other in needs.get(waiting.pop(), ()):
                if other not in wanted:
                    wanted.add(other)
                    waiting.append(other)
        for name, index in self.index.items():
            if name not in wanted:
                self.findings.add(
                    ("stages", index),
                    f"no output needs the stage {name}; name one of its tensors in outputs:, or remove it",
                )


def _takes(stage: StageConfig, wanted: Sequence[TensorSpec]) -> str:
    names = ", ".join(spec.name for spec in wanted)
    if not wanted:
        return f"{stage.use} takes no inputs"
    return f"{stage.use} takes {len(wanted)} input{'s' if len(wanted) > 1 else ''} ({names})"


def _in_order(loaded: LoadedConfig, needs: Mapping[str, set[str]], findings: Findings) -> tuple[str, ...]:
    """The stages sorted by what they need; those that may go first do so as they are listed."""
    order: list[str] = []
    waiting = [stage.name for stage in loaded.config.stages]
    while waiting:
        ready = next((name for name in waiting if needs[name] <= set(order)), None)
        if ready is None:
            cycle = _cycle(waiting, needs)
            index = next(i for i, stage in enumerate(loaded.config.stages) if stage.name == cycle[0])
            findings.add(("stages", index, "inputs"), f"the stages wait for each other: {' -> '.join(cycle)}")
            break
        order.append(ready)
        waiting.remove(ready)
    return tuple(order)


def _cycle(waiting: Sequence[str], needs: Mapping[str, set[str]]) -> list[str]:
    """One cycle among stages none of which can go first, in the direction of the data, first = last."""
    walk = [waiting[0]]
    while True:
        back = min(needs[walk[-1]] & set(waiting))
        if back in walk:
            return [back, *reversed(walk[walk.index(back) :])]
        walk.append(back)
