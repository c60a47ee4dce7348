"""CompiledPlan: the plan, turned into the small integers that the scheduler thinks in.

Stages are indices in the plan's order, sets of stages are bit masks, and every tensor that has
bytes of its own has a number:

    0 .. len(inputs)-1                            what the client sends
    base[stage] .. base[stage]+len(fields)-1      what that stage's slot holds

Scopes are indices too: 0 is the request itself; a further one for each stage whose many outputs another stage takes one
by one. The stages of such a scope run for the request's children.

Made once; pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.graph.branches import has_branches, needs_of
from pipeline.graph.plan import INGRESS, Edge, Plan, StagePlan
from pipeline.wire.route import MOST_INPUTS
from shm.handle import ENCODED, nbytes_of
from shm.layout import round_up

__all__ = ["NO_POOL", "CompiledPlan", "CompiledStage", "Scope"]

NO_POOL = -1
"""In place of a pool's index: there is no pool, or none of this plan."""


@dataclass(frozen=True, slots=True)
class CompiledStage:
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
    """For each of `sources`: -1 if it takes one tensor; otherwise it takes many, and this is how many scopes further
    out they are known. Empty: it takes one of each."""
    may_miss: int
    """Mask of the stages of `optional`."""
    in_route: bool
    """Whether it may be a later hop of an order (see `pipeline.wire.route`), which has no room for lists."""
    reads: tuple[int, ...]
    """Distinct producers whose slots it reads; -1 is the ingress."""
    base: int
    """Number of its first own tensor."""
    fields: int
    """How many own tensors it makes."""
    singles: tuple[int, ...]
    """Which of its own tensors are one tensor: positions."""
    manies: tuple[int, ...]
    """Which of its own tensors are many: positions."""
    asked: tuple[int, ...]
    """Which of its own tensors a condition of another stage asks for: positions."""
    pools: tuple[int, ...]
    """Indices of its pools in the plan, by rising slot size; most stages have one, and none those that fill no slot."""
    slot_sizes: tuple[int, ...]
    """Bytes of a slot of each of them."""
    followers: tuple[int, ...]
    """Stages that need this one."""
    following: int
    """Mask of those."""
    must_notify: bool
    """Whether the scheduler needs its notice: a stage outside of its scope, or the client, reads what it made."""
    ends_order: bool
    """Whether an order ends with it: what comes next depends on what it has found."""
    notifies_at_once: bool
    """Whether the scheduler waits for its notice, though the order goes on."""
    made: tuple[tuple[int, str, tuple[int, ...]], ...] | None
    """For each of its own tensors where it lies in the stage's slot: offset, dtype, shape. None: that depends on what
    the stage finds."""
    guards_last_slot: bool
    """Whether its slots are handed out as `Scope.guards_last_slot` says."""
    by_rows: bool
    """Whether its second pool is for requests of several rows; otherwise pools differ by how much the stage makes."""
    credits: int
    quantum: int
    """How many children of one request are served before it is the next request's turn."""

    @property
    def sized(self) -> bool:
        """Whether its slots are of several sizes, of which one is guessed."""
        return len(self.pools) > 1 and not self.by_rows

    def made_of(self, rows: int) -> tuple[tuple[int, str, tuple[int, ...]], ...] | None:
        """As `made`, in a slot of a request of so many rows."""
        if rows == 1 or self.made is None:
            return self.made
        made = []
        offset = 0
        for _, dtype, shape in self.made:
            whole = (rows, *shape)
            made.append((offset, dtype, whole))
            offset = round_up(offset + nbytes_of(dtype, whole))
        return tuple(made)

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
    the answer, or the stage that joins, refers to it."""
    readers: tuple[int, ...]
    """For each producer (index + 1): how many stages of this scope, and scopes in it, read its slot."""
    reads: tuple[int, ...]
    """Producers of the scope around it whose slots are read in here."""
    exports: tuple[int, ...]
    """Producers of this scope whose slots are read outside of it: by stages that join, or by the client."""
    most: int
    """How many children one request has at most; of the outermost scope 1."""
    guards_last_slot: bool
    """Whether it has branches: then one request may have slots of one branch and wait for those of another, while a
    second one does the reverse, unless the eldest of them is always left enough (see `State.eldest`)."""


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """The whole plan."""

    stages: tuple[CompiledStage, ...]
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
    answered: int
    """Index of the scope that has the outputs: 0, or that of the children, if each is answered by itself."""
    rows: int
    """How many rows one request may carry."""

    @property
    def several_pools(self) -> tuple[int, ...]:
        """Indices of the pools for requests of several rows."""
        if self.rows == 1:
            return ()
        return (self.ingress_pools[-1], *[stage.pools[-1] for stage in self.stages if stage.pools])

    @property
    def slots_of_answer(self) -> int:
        """How many slots the answer to one request refers to, at most."""
        scope = self.scopes[self.answered]
        return sum(scope.kept) * scope.most

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
    def of(cls, plan: Plan) -> CompiledPlan:
        """Compile a checked plan."""
        return _Maker(plan).compiled()


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
        #: The path of the scope that has the outputs.
        self.answered: tuple[str, ...] = ()
        if plan.answer_each_child:
            self.answered = plan.stages[self.index[plan.outputs[0][1].producer]].scope

    def compiled(self) -> CompiledPlan:
        plan = self.plan
        outputs = tuple(self._number(edge) for _, edge in plan.outputs)
        scopes = tuple(self._scope(i, outputs) for i in range(len(self.paths)))
        written = plan.sources or tuple(edge.producer for _, edge in plan.outputs)
        return CompiledPlan(
            stages=tuple(self._stage(i, stage, scopes) for i, stage in enumerate(plan.stages)),
            scopes=scopes,
            tensors=len(self.producer_of),
            inputs=len(plan.inputs),
            outputs=outputs,
            output_sources=tuple(self._bit(name) for name in written),
            ingress_pools=self._pools(INGRESS),
            answered=self.paths.index(self.answered),
            rows=plan.rows,
        )

    def _pools(self, producer: str) -> tuple[int, ...]:
        """The pools of what a stage makes, or clients, by rising slot size."""
        pools = self.plan.pools
        mine = [at for at, pool in enumerate(pools) if pool.producer == producer]
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

    def _stage(self, i: int, stage: StagePlan, scopes: tuple[Scope, ...]) -> CompiledStage:
        plan = self.plan
        scope = scopes[self.paths.index(stage.scope)]
        written = stage.sources or tuple(edge.producer for edge in stage.edges)
        optional, lists = self._optional(stage, written), self._lists(i)
        asked = self._asked(i)
        manies = tuple(at for at, field in enumerate(stage.fields) if field.spec.many is not None)
        followers = tuple(j for j, mask in enumerate(self.needs) if mask >> i & 1)
        kept = scope.kept[i + 1]
        pools = self._pools(stage.name)
        return CompiledStage(
            index=i,
            bit=1 << i,
            name=stage.name,
            scope=scope.index,
            needs=self.needs[i],
            required=_union(self._bit(name) for spec, name in zip(stage.inputs, written) if not spec.optional),
            when=None if stage.when is None else (self._number(stage.when.edge), stage.when.negated),
            sources=self.sources[i],
            optional=optional,
            lists=lists,
            may_miss=_union(optional),
            in_route=_fits_route(lists, stage),
            reads=self.reads[i],
            base=self.bases[i],
            fields=len(stage.fields),
            singles=tuple(at for at in range(len(stage.fields)) if at not in manies),
            manies=manies,
            asked=asked,
            pools=pools,
            slot_sizes=tuple(plan.pools[at].slot_bytes for at in pools),
            followers=followers,
            following=_mask(followers),
            must_notify=kept or bool(manies or asked),
            ends_order=bool(manies or asked),
            notifies_at_once=len(followers) > 1 or kept,
            made=_made(stage, 1 if plan.rows > 1 else len(pools)),
            guards_last_slot=scope.guards_last_slot and bool(stage.fields),
            by_rows=plan.rows > 1 and len(pools) > 1,
            credits=stage.credits,
            quantum=stage.batch.max_size,
        )

    def _optional(self, stage: StagePlan, written: Sequence[str]) -> tuple[int, ...]:
        """`CompiledStage.optional` of a stage."""
        return tuple(self._bit(name) if spec.optional else 0 for spec, name in zip(stage.inputs, written))

    def _asked(self, i: int) -> tuple[int, ...]:
        """Which of a stage's own tensors the conditions of others ask for: positions."""
        asking = [other.when.edge for other in self.plan.stages if other.when is not None]
        name = self.plan.stages[i].name
        return tuple(sorted({self._number(edge) - self.bases[i] for edge in asking if edge.producer == name}))

    def _lists(self, i: int) -> tuple[int, ...]:
        """`CompiledStage.lists` of a stage."""
        stage = self.plan.stages[i]
        lists = tuple(
            -1 if spec.many is None else self._further_out(stage, self.producer_of[tensor])
            for spec, tensor in zip(stage.inputs, self.sources[i])
        )
        return lists if any(up >= 0 for up in lists) else ()

    def _further_out(self, stage: StagePlan, producer: int) -> int:
        """How many scopes further out than the stage the tensors of `producer` are known as a list."""
        made = self.plan.stages[producer]
        return len(stage.scope) - min(len(made.scope), len(stage.scope))

    def _scope(self, number: int, outputs: tuple[int, ...]) -> Scope:
        path = self.paths[number]
        own, inside = self._own(path), self._inside(path)
        source = self.index[path[-1]] if path else -1
        answered = {self.producer_of[tensor] for tensor in outputs} if path == self.answered else set()
        exports = self._exports(own, inside) | (answered if path else set())
        kept = exports if path else answered
        within = _union(1 << i for i in inside)
        return Scope(
            index=number,
            source=source,
            parent=self.paths.index(path[:-1]) if path else -1,
            stages=_union(1 << i for i in own),
            inside=within,
            needs=(_union(self.needs[i] for i in inside) & ~within) | 1 << source if path else 0,
            first=tuple(sorted(i for i in own if not self.needs[i] & within)),
            last=self._last(inside, kept),
            kept=tuple(producer in kept for producer in self._producers()),
            readers=self._readers(path, own),
            reads=self._taken_in(path, inside),
            exports=tuple(sorted(exports)),
            most=self._most(source),
            guards_last_slot=has_branches(self.plan.stages, self.needs, path),
        )

    def _producers(self) -> range:
        """The ingress, as -1, and all stages."""
        return range(-1, len(self.plan.stages))

    def _own(self, path: tuple[str, ...]) -> set[int]:
        """The stages that are of the scope itself."""
        return {i for i, stage in enumerate(self.plan.stages) if stage.scope == path}

    def _inside(self, path: tuple[str, ...]) -> set[int]:
        """Those, and the stages of all scopes in it."""
        return {i for i, stage in enumerate(self.plan.stages) if stage.scope[: len(path)] == path}

    def _nested(self, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The scopes right in it."""
        return [deeper for deeper in self.paths if deeper and deeper[:-1] == path]

    def _exports(self, own: set[int], inside: set[int]) -> set[int]:
        """The stages of a scope whose slots are read outside; none of the outermost, which has no outside."""
        read = {producer for i, reads in enumerate(self.reads) if i not in inside for producer in reads}
        return own & read

    def _last(self, inside: set[int], kept: set[int]) -> int:
        """Mask of the stages that must be done for the scope to be over: no other follows them, or they are kept."""
        followed = _union(self.needs[i] for i in inside)
        ends = _union(1 << i for i in inside) & ~followed
        return ends | _union(1 << producer for producer in kept if producer >= 0)

    def _readers(self, path: tuple[str, ...], own: set[int]) -> tuple[int, ...]:
        """For each producer: how many stages of the scope, and scopes in it, read its slot."""
        return tuple(
            sum(producer in self.reads[i] for i in own)
            + sum(self._is_held_by(producer, deeper) for deeper in self._nested(path) if self._is_of(producer, path))
            for producer in self._producers()
        )

    def _is_of(self, producer: int, path: tuple[str, ...]) -> bool:
        """Whether a producer fills its slot for the requests of a scope; the ingress does for those of clients."""
        return self.plan.stages[producer].scope == path if producer >= 0 else not path

    def _is_held_by(self, producer: int, path: tuple[str, ...]) -> bool:
        """Whether a slot is kept for as long as the children of a scope run: they read it, or are made of it."""
        return producer == self.index[path[-1]] or any(producer in self.reads[i] for i in self._inside(path))

    def _taken_in(self, path: tuple[str, ...], inside: set[int]) -> tuple[int, ...]:
        """Producers of the scope around one whose slots are read in it; the stage that fans out is one of them."""
        if not path:
            return ()
        around = [producer for producer in self._producers() if self._is_of(producer, path[:-1])]
        source = self.index[path[-1]]
        return tuple(p for p in around if p == source or any(p in self.reads[i] for i in inside))

    def _most(self, source: int) -> int:
        """How many children of a request there are at most; without a stage that fans out it is one, the request."""
        fields = self.plan.stages[source].fields if source >= 0 else ()
        return min((field.spec.many for field in fields if field.spec.many is not None), default=1)


def _fits_route(lists: Sequence[int], stage: StagePlan) -> bool:
    return not lists and len(stage.inputs) <= MOST_INPUTS


def _made(stage: StagePlan, pools: int) -> tuple[tuple[int, str, tuple[int, ...]], ...] | None:
    """`CompiledStage.made` of a stage with so many pools."""
    specs = [field.spec for field in stage.fields]
    if pools > 1 or any(spec.many is not None or spec.dtype in ENCODED or not spec.is_static for spec in specs):
        return None
    return tuple((field.offset, field.spec.dtype, field.spec.max_shape) for field in stage.fields)


def _mask(stages: Iterable[int]) -> int:
    return _union(1 << index for index in stages)


def _union(masks: Iterable[int]) -> int:
    """One mask of all."""
    union = 0
    for mask in masks:
        union |= mask
    return union
