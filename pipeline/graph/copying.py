"""Copying: which tensors of a plan are passed as views, which may be copied, and why. Pure.

It names the edges that copies are counted by, says before anything runs which of them may copy, and decides in
which order a pool gives its slots so that few have to.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.graph.plan import Plan, PoolPlan, StagePlan
from shm.handle import BYTES, ENCODED
from shm.layout import ALIGNMENT
from shm.pool import RING, STACK
from stages import copies
from stages.copies import DECODED, GAPS, GATHERED, INPUT, PADDED, SCATTERED, SHAPE_UNKNOWN
from stages.spec import TensorSpec

__all__ = ["PossibleCopy", "edge_name", "order_of", "possible_copies"]


class PossibleCopy(NamedTuple):
    """A copy that a plan does not exclude."""

    edge: str
    """As `edge_name`."""
    reason: str
    """One of `stages.copies.REASONS`."""
    when: str
    """When it happens."""


def edge_name(stage: StagePlan, side: str, tensor: str) -> str:
    """`decode.image -> inference.x` for an input of the stage, `inference.scores` for an output."""
    if side != INPUT:
        return f"{stage.name}.{tensor}"
    edge = next(edge for spec, edge in zip(stage.inputs, stage.edges) if spec.name == tensor)
    return f"{edge.producer}.{edge.tensor} -> {stage.name}.{tensor}"


def order_of(plan: Plan, pool: PoolPlan) -> str:
    """The order in which a pool's slots are given: RING if a stage that writes or reads them wants neighbours."""
    batched = any(
        _stacks(stage)
        for stage in plan.stages
        if stage.name == pool.producer or any(edge.producer == pool.producer for edge in stage.edges)
    )
    return RING if batched else STACK


def possible_copies(plan: Plan) -> tuple[PossibleCopy, ...]:
    """Every copy that may happen, in the order of the stages; copies of what a stage's code returns are not
    foreseen."""
    found: list[PossibleCopy] = []
    for stage in plan.stages:
        for spec, edge in zip(stage.inputs, stage.edges):
            name = edge_name(stage, INPUT, spec.name)
            given = plan.output_spec(edge)
            if spec.dtype == BYTES:
                found.append(PossibleCopy(name, DECODED, "whenever the stage reads it"))
            if spec.dtype not in ENCODED and spec.many is None:
                found += _padded(stage, name, spec)
                found += _batched(stage, name, spec, GATHERED, _gaps(plan, edge.producer, given))
        for field in stage.fields:
            name = f"{stage.name}.{field.spec.name}"
            if field.spec.dtype == BYTES:
                found.append(PossibleCopy(name, copies.ENCODED, "whenever the stage gives it"))
            if field.spec.dtype not in ENCODED and field.spec.many is None:
                found += _batched(stage, name, field.spec, SCATTERED, _gaps(plan, stage.name, field.spec))
                if not field.spec.is_static and not stage.ragged:
                    found.append(PossibleCopy(name, SHAPE_UNKNOWN, "when a model runs with a shape for the first time"))
    return tuple(found)


def _stacks(stage: StagePlan) -> bool:
    """Whether a stage may take the rows of a batch as one array; a ragged one looks at each by itself."""
    return stage.batch.max_size > 1 and not (stage.ragged and stage.batch.gather)


def _padded(stage: StagePlan, name: str, spec: TensorSpec) -> list[PossibleCopy]:
    multiples = [f"{dim} is no multiple of {stage.pad[dim]}" for dim in spec.max if stage.pad.get(dim, 1) > 1]
    return [PossibleCopy(name, PADDED, "if " + " or ".join(multiples))] if multiples else []


def _batched(stage: StagePlan, name: str, spec: TensorSpec, apart: str, gaps: str | None) -> list[PossibleCopy]:
    """Of a stage that takes, or fills, the rows of a batch as one array."""
    if not _stacks(stage):
        return []
    found = []
    if stage.batch.gather:
        found.append(PossibleCopy(name, apart, "if rows of a batch do not lie side by side"))
    if gaps is not None:
        found.append(PossibleCopy(name, GAPS, f"if the stage needs rows without gaps: {gaps}"))
    return found


def _gaps(plan: Plan, producer: str, spec: TensorSpec) -> str | None:
    """Why neighbours of a tensor have gaps between them; None if they have none."""
    if spec.many is not None:
        if spec.is_static and spec.max_nbytes % ALIGNMENT == 0:
            return None
        return f"elements of {spec.name} begin at multiples of {ALIGNMENT} bytes"
    room = max(pool.slot_bytes for pool in plan.pools if pool.producer == producer)
    if not spec.is_static:
        return f"{spec.name} is of free shape, and a slot has room for the largest"
    if spec.max_nbytes != room:
        return f"{spec.name} takes {spec.max_nbytes} of the {room} bytes of its slot"
    return None
