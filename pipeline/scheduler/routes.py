"""Routes: the plan, turned into the small integers that the scheduler thinks in.

Stages are indices in the plan's order, sets of stages are bit masks, and every tensor that has
bytes of its own has a number:

    0 .. len(inputs)-1                            what the client sends
    base[stage] .. base[stage]+len(fields)-1      what that stage's slot holds

Scopes are indices too: 0 is the request itself; a further one for each stage whose many outputs somebody
takes one by one. The stages of such a scope run for the request's children.

Made once; pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.graph.branches import has_branches, needs_of
from pipeline.graph.plan import INGRESS, Edge, Plan, StagePlan

__all__ = ["NO_POOL", "Route", "Routes", "Scope"]

NO_POOL = -1
"""In place of a pool's index: there is none, or none that is of this plan."""


@dataclass(frozen=True, slots=True)
class Route:
    """One stage, as the scheduler sees it."""

    index: int
    bit: int
    """1 << index."""
    name: str
    scope: int
    """Index of its scope."""
    needs: int
    """Mask of the stages that must be done before."""
    required: int
    """Mask of the stages without whose outputs it is skipped."""
    when: tuple[int, bool] | None
    """Its condition: a tensor number, and whether it is negated."""
    sources: tuple[int, ...]
    """Tensor numbers, in the order of the stage's inputs."""
    optional: tuple[int, ...]
    """For each of `sources`: the mask of the stage that may be skipped without this one; 0: it may not."""
    lists: tuple[int, ...]
    """For each of `sources`: -1 where it takes one; else it takes many, and they are known so many scopes further
    out. Empty: it takes one of each."""
    reads: tuple[int, ...]
    """Distinct producers whose slots it reads; -1 is the ingress."""
    base: int
    """Number of its first own tensor."""
    fields: int
    """How many own tensors it makes."""
    singles: tuple[int, ...]
    """Which of them are one tensor: positions."""
    manies: tuple[int, ...]
    """Which of them are many."""
    asked: tuple[int, ...]
    """Which of them somebody's condition asks for."""
    pools: tuple[int, ...]
    """Indices of its pools in the plan, by rising slot size; most stages have one, and none those that fill no slot."""
    slot_sizes: tuple[int, ...]
    """Bytes of a slot of each of them."""
    followers: tuple[int, ...]
    """Stages that need this one."""
    essential: bool
    """Whether the scheduler must have its notice: somebody outside of its scope wants what it made."""
    ends: bool
    """Whether an order ends with it: what comes next depends on what it has found."""
    prompt: bool
    """Whether its notice is waited for, though the order goes on."""
    contended: bool
    """Whether its slots are handed out as `Scope.contended` says."""
    credits: int
    quantum: int
    """How many children of one request are served before it is the next request's turn."""

    @property
    def may_part(self) -> bool:
        """Whether it may give what it makes in parts: only the answer to a request takes it."""
        return not (self.followers or self.scope or self.manies or self.asked) and self.fields > 0


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the graph that is run by requests of one kind: those of clients, or the children of a fan-out."""

    index: int
    source: int
    """The stage that fans out; -1: these are the clients' own."""
    parent: int
    """Index of the scope around it; -1 for the outermost."""
    stages: int
    """Mask of the stages that are of this scope."""
    inside: int
    """Mask of those, and of the stages of all scopes in it."""
    needs: int
    """Mask of the stages outside that must be done before it opens."""
    first: tuple[int, ...]
    """Its stages that need no other one inside."""
    last: int
    """Mask of the stages that must be done for it to be over."""
    kept: tuple[bool, ...]
    """For each producer (index + 1; 0 is the ingress): whether its slot outlives the request's own stages, since
    the answer, or whoever joins, refers to it."""
    readers: tuple[int, ...]
    """For each producer (index + 1): how many stages of this scope, and scopes in it, read its slot."""
    reads: tuple[int, ...]
    """Producers of the scope around it whose slots are read in here."""
    exports: tuple[int, ...]
    """Producers of this scope whose slots somebody outside reads."""
    most: int
    """How many children one request has at most; of the outermost scope 1."""
    contended: bool
    """Whether it has branches: then one request may have slots of one branch and wait for those of another, while a
    second one does the reverse, unless the eldest of them is always left enough (see `State.eldest`)."""


@dataclass(frozen=True, slots=True)
class Routes:
    """The whole plan."""

    stages: tuple[Route, ...]
    scopes: tuple[Scope, ...]
    tensors: int
    """How many tensor numbers there are."""
    inputs: int
    """How many of them the client sends."""
    outputs: tuple[int, ...]
    """Tensor numbers of the answer, in its order."""
    output_sources: tuple[int, ...]
    """For each of `outputs`, the mask of the stage without which it is missing."""
    ingress_pools: tuple[int, ...]
    """Indices of the pools that clients fill, by rising slot size."""

    def until(self, index: int) -> int:
        """Mask of a stage and of all that must have run before it."""
        mask = self.stages[index].bit
        for stage in reversed(self.stages):
            if stage.bit & mask:
                mask |= stage.needs
        return mask

    @property
    def first(self) -> tuple[int, ...]:
        """Stages that need nothing but the request."""
        return self.scopes[0].first

    @property
    def kept(self) -> tuple[bool, ...]:
        """For each producer (index + 1; 0 is the ingress): whether the answer refers to its slot."""
        return self.scopes[0].kept

    @classmethod
    def of(cls, plan: Plan) -> Routes:
        """The routes of a checked plan."""
        return _Maker(plan).routes()


class _Maker:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.index = {stage.name: i for i, stage in enumerate(plan.stages)}
        self.paths: list[tuple[str, ...]] = [()]
        for stage in plan.stages:
            if stage.scope not in self.paths:
                self.paths.append(stage.scope)
        self.bases: list[int] = []
        self.producer_of = [-1] * len(plan.inputs)
        for i, stage in enumerate(plan.stages):
            self.bases.append(len(self.producer_of))
            self.producer_of += [i] * len(stage.fields)
        self.sources = [tuple(self._number(edge) for edge in stage.edges) for stage in plan.stages]
        self.reads = [tuple(sorted({self.producer_of[t] for t in taken})) for taken in self.sources]
        self.needs = needs_of(plan.stages)

    def routes(self) -> Routes:
        plan = self.plan
        outputs = tuple(self._number(edge) for _, edge in plan.outputs)
        scopes = tuple(self._scope(i, outputs) for i in range(len(self.paths)))
        written = plan.sources or tuple(edge.producer for _, edge in plan.outputs)
        return Routes(
            stages=tuple(self._route(i, stage, scopes) for i, stage in enumerate(plan.stages)),
            scopes=scopes,
            tensors=len(self.producer_of),
            inputs=len(plan.inputs),
            outputs=outputs,
            output_sources=tuple(self._bit(name) for name in written),
            ingress_pools=self._pools(INGRESS),
        )

    def _pools(self, producer: str) -> tuple[int, ...]:
        """The pools of what a stage makes, or clients, by rising slot size."""
        pools = self.plan.pools
        mine = [at for at, pool in enumerate(pools) if pool.name.partition("/")[0] == producer]
        return tuple(sorted(mine, key=lambda at: pools[at].slot_bytes))

    def _number(self, edge: Edge) -> int:
        """The number of a tensor."""
        if edge.producer == INGRESS:
            return next(i for i, spec in enumerate(self.plan.inputs) if spec.name == edge.tensor)
        stage = self.plan.stages[self.index[edge.producer]]
        within = next(i for i, f in enumerate(stage.fields) if f.spec.name == edge.tensor)
        return self.bases[self.index[edge.producer]] + within

    def _bit(self, name: str) -> int:
        return 0 if name == INGRESS else 1 << self.index[name]

    def _route(self, i: int, stage: StagePlan, scopes: tuple[Scope, ...]) -> Route:
        plan = self.plan
        scope = scopes[self.paths.index(stage.scope)]
        written = stage.sources or tuple(edge.producer for edge in stage.edges)
        required = _union(self._bit(name) for spec, name in zip(stage.inputs, written) if not spec.optional)
        asked = tuple(
            sorted(
                {
                    self._number(other.when.edge) - self.bases[i]
                    for other in plan.stages
                    if other.when is not None and other.when.edge.producer == stage.name
                }
            )
        )
        manies = tuple(at for at, field in enumerate(stage.fields) if field.spec.many is not None)
        followers = tuple(j for j, mask in enumerate(self.needs) if mask >> i & 1)
        kept = scope.kept[i + 1]
        pools = self._pools(stage.name)
        lists = tuple(
            -1 if spec.many is None else self._further_out(stage, self.producer_of[tensor])
            for spec, tensor in zip(stage.inputs, self.sources[i])
        )
        return Route(
            index=i,
            bit=1 << i,
            name=stage.name,
            scope=scope.index,
            needs=self.needs[i],
            required=required,
            when=None if stage.when is None else (self._number(stage.when.edge), stage.when.negated),
            sources=self.sources[i],
            optional=tuple(self._bit(name) if spec.optional else 0 for spec, name in zip(stage.inputs, written)),
            lists=lists if any(up >= 0 for up in lists) else (),
            reads=self.reads[i],
            base=self.bases[i],
            fields=len(stage.fields),
            singles=tuple(at for at in range(len(stage.fields)) if at not in manies),
            manies=manies,
            asked=asked,
            pools=pools,
            slot_sizes=tuple(plan.pools[at].slot_bytes for at in pools),
            followers=followers,
            essential=kept or bool(manies or asked),
            ends=bool(manies or asked),
            prompt=len(followers) > 1 or kept,
            contended=scope.contended and bool(stage.fields),
            credits=stage.credits,
            quantum=stage.batch.max_size,
        )

    def _path(self, deeper: set[int]) -> tuple[str, ...]:
        """The scope of a set of all stages inside of it."""
        return min((self.plan.stages[i].scope for i in deeper), key=len)

    def _further_out(self, stage: StagePlan, producer: int) -> int:
        """How many scopes around a stage the tensors of `producer` are known as a list."""
        made = self.plan.stages[producer]
        return len(stage.scope) - min(len(made.scope), len(stage.scope))

    def _scope(self, number: int, outputs: tuple[int, ...]) -> Scope:
        path, stages = self.paths[number], self.plan.stages
        own = {i for i, stage in enumerate(stages) if stage.scope == path}
        inside = {i for i, stage in enumerate(stages) if stage.scope[: len(path)] == path}
        nested = [
            {i for i, stage in enumerate(stages) if stage.scope[: len(deeper)] == deeper}
            for deeper in self.paths
            if deeper[:-1] == path and deeper != path
        ]
        within, around = _union(1 << i for i in inside), _union(1 << i for i in range(len(stages)) if i not in inside)
        source = self.index[path[-1]] if path else -1
        followed = 0
        for i in inside:
            followed |= self.needs[i]
        if path:
            exports = {i for i in own if any(i in self.reads[j] for j in range(len(stages)) if j not in inside)}
            kept = {i + 1 for i in exports}
            needs = _union(self.needs[i] & around for i in inside) | 1 << source
        else:
            exports = set()
            kept = {self.producer_of[tensor] + 1 for tensor in outputs}
            needs = 0
        readers = []
        for producer in range(-1, len(stages)):
            count = sum(producer in self.reads[i] for i in own)
            if producer in own or (producer < 0 and not path):
                # Whatever is read in a nested scope is read as long as its children run; so is what it fans out.
                count += sum(
                    any(producer in self.reads[i] for i in deeper) or self._opens(producer, deeper) for deeper in nested
                )
            readers.append(count)
        parent = self.paths.index(path[:-1]) if path else -1
        around_it = {i for i, stage in enumerate(stages) if path and stage.scope == path[:-1]}
        if path and not path[:-1]:
            around_it.add(-1)
        return Scope(
            index=number,
            source=source,
            parent=parent,
            stages=_union(1 << i for i in own),
            inside=within,
            needs=needs,
            first=tuple(sorted(i for i in own if not self.needs[i] & within)),
            last=within & ~followed | _union(1 << i - 1 for i in kept if i > 0),
            kept=tuple(at in kept for at in range(len(stages) + 1)),
            readers=tuple(readers),
            reads=tuple(
                sorted(p for p in around_it if p == source or any(p in self.reads[i] for i in inside))
            ),
            exports=tuple(sorted(exports)),
            most=min((f.spec.many for f in stages[source].fields if f.spec.many is not None), default=1) if path else 1,
            contended=has_branches(stages, self.needs, path),
        )

    def _opens(self, producer: int, deeper: set[int]) -> bool:
        """Whether a nested scope is that of what `producer` fans out."""
        return producer >= 0 and self._path(deeper)[-1] == self.plan.stages[producer].name


def _union(masks: Iterable[int]) -> int:
    """One mask of all."""
    union = 0
    for mask in masks:
        union |= mask
    return union
