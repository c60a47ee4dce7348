"""Routes: the plan, turned into the small integers that the scheduler thinks in.

Stages are indices in the plan's order, sets of stages are bit masks, and every tensor that has
bytes of its own has a number:

    0 .. len(inputs)-1                            what the client sends
    base[stage] .. base[stage]+len(fields)-1      what that stage's slot holds

Made once; pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.graph.plan import INGRESS, Edge, Plan

__all__ = ["NO_POOL", "Route", "Routes"]

NO_POOL = -1


@dataclass(frozen=True, slots=True)
class Route:
    """One stage, as the scheduler sees it."""

    index: int
    bit: int
    """1 << index."""
    name: str
    needs: int
    """Mask of the stages that must be done before."""
    sources: tuple[int, ...]
    """Tensor numbers, in the order of the stage's inputs."""
    reads: tuple[int, ...]
    """Distinct producers whose slots it reads; -1 is the ingress."""
    base: int
    """Number of its first own tensor."""
    fields: int
    """How many own tensors it makes."""
    pool: int
    """Index of its pool in the plan, or NO_POOL."""
    followers: tuple[int, ...]
    """Stages that need this one."""
    credits: int


@dataclass(frozen=True, slots=True)
class Routes:
    """The whole plan."""

    stages: tuple[Route, ...]
    everything: int
    """Mask of all stages."""
    first: tuple[int, ...]
    """Stages that need nothing but the request."""
    last: int
    """Mask of the stages that must be done for the answer: those that no other stage follows."""
    tensors: int
    """How many tensor numbers there are."""
    inputs: int
    """How many of them the client sends."""
    outputs: tuple[int, ...]
    """Tensor numbers of the answer, in its order."""
    kept: tuple[bool, ...]
    """For each producer (index + 1; 0 is the ingress): whether the answer refers to its slot."""
    readers: tuple[int, ...]
    """For each producer (index + 1): how many stages read its slot."""
    ingress_pools: tuple[int, ...]
    """Indices of the pools that clients fill, by rising slot size."""

    @classmethod
    def of(cls, plan: Plan) -> Routes:
        """The routes of a checked plan."""
        index = {stage.name: i for i, stage in enumerate(plan.stages)}
        pool_of = {pool.name: i for i, pool in enumerate(plan.pools)}
        bases: list[int] = []
        count = len(plan.inputs)
        for stage in plan.stages:
            bases.append(count)
            count += len(stage.fields)
        producer_of = [-1] * len(plan.inputs)
        for i, stage in enumerate(plan.stages):
            producer_of += [i] * len(stage.fields)

        def number(edge: Edge) -> int:
            if edge.producer == INGRESS:
                return next(i for i, spec in enumerate(plan.inputs) if spec.name == edge.tensor)
            stage = plan.stages[index[edge.producer]]
            within = next(i for i, f in enumerate(stage.fields) if f.spec.name == edge.tensor)
            return bases[index[edge.producer]] + within

        needs = []
        sources = []
        for stage in plan.stages:
            sources.append(tuple(number(edge) for edge in stage.edges))
            mask = 0
            for name in (*stage.after, *(e.producer for e in stage.edges if e.producer != INGRESS)):
                mask |= 1 << index[name]
            needs.append(mask)
        followed = 0
        for mask in needs:
            followed |= mask
        everything = (1 << len(plan.stages)) - 1
        reads = [tuple(sorted({producer_of[t] for t in taken})) for taken in sources]
        outputs = tuple(number(edge) for _, edge in plan.outputs)
        return cls(
            stages=tuple(
                Route(
                    index=i,
                    bit=1 << i,
                    name=stage.name,
                    needs=needs[i],
                    sources=sources[i],
                    reads=reads[i],
                    base=bases[i],
                    fields=len(stage.fields),
                    pool=pool_of[stage.name] if stage.fields else NO_POOL,
                    followers=tuple(j for j, mask in enumerate(needs) if mask >> i & 1),
                    credits=stage.credits,
                )
                for i, stage in enumerate(plan.stages)
            ),
            everything=everything,
            first=tuple(i for i, mask in enumerate(needs) if not mask),
            last=everything & ~followed,
            tensors=count,
            inputs=len(plan.inputs),
            outputs=outputs,
            kept=tuple(any(producer_of[t] == p for t in outputs) for p in range(-1, len(plan.stages))),
            readers=tuple(sum(p in taken for taken in reads) for p in range(-1, len(plan.stages))),
            ingress_pools=tuple(
                sorted(
                    (i for i, pool in enumerate(plan.pools) if pool.name.startswith(f"{INGRESS}/")),
                    key=lambda i: plan.pools[i].slot_bytes,
                )
            ),
        )
