"""Branches: whether the stages of a scope come one after the other. Pure.

If they do, requests take their slots pool by pool in one order, and the request that is furthest can always go on. If
some stand beside each other, one request may have slots of one branch and wait for those of another, while a
second one does the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.graph.plan import StagePlan

__all__ = ["has_branches", "needs_of"]


def needs_of(stages: Sequence[StagePlan]) -> list[int]:
    """For each stage, in the order of the plan, the mask of the stages that must be done before it: bit i is stage
    i."""
    index = {stage.name: i for i, stage in enumerate(stages)}
    needs = []
    for stage in stages:
        names = {*stage.after, *(edge.producer for edge in stage.edges), *stage.sources}
        if stage.when is not None:
            names.add(stage.when.edge.producer)
        needs.append(_mask(index[name] for name in names if name in index))
    return needs


def has_branches(stages: Sequence[StagePlan], needs: Sequence[int], scope: tuple[str, ...]) -> bool:
    """Whether two of a scope's stages with slots, and scopes in it, are neither before nor after each other.

    Args:
        needs: as `needs_of`.
    """
    items = []
    for i, stage in enumerate(stages):
        if stage.scope == scope and stage.fields:
            items.append((1 << i, _before(needs, 1 << i) & ~(1 << i)))
    for deeper in {stage.scope for stage in stages if stage.scope and stage.scope[:-1] == scope}:
        within = [i for i, stage in enumerate(stages) if stage.scope[: len(deeper)] == deeper]
        inside = _mask(within)
        needed = _mask(i for i, stage in enumerate(stages) if stage.name == deeper[-1])
        for i in within:
            needed |= needs[i]
        items.append((inside, _before(needs, needed & ~inside)))
    return any(
        not (bits & before_other or other & before)
        for at, (bits, before) in enumerate(items)
        for other, before_other in items[at + 1 :]
    )


def _before(needs: Sequence[int], mask: int) -> int:
    """Mask of all stages that come before those of `mask`, and themselves."""
    for i in range(len(needs) - 1, -1, -1):
        if mask >> i & 1:
            mask |= needs[i]
    return mask


def _mask(indices: Iterable[int]) -> int:
    mask = 0
    for i in indices:
        mask |= 1 << i
    return mask
