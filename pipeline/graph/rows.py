"""Rows: how many rows one request may carry in one slot, and why not more. Pure.

    a request of one row           |row|                 in a slot of the first pool of each producer
    a request of n rows            |row|row| ... |row|   in a slot of the second; one submission, one order, one answer

The rows of a tensor lie one after the other, so they are one array of n rows for a stage or a client. That needs rows
that are all of one size, and that all go the same way: pipelines with anything else take one row a request, and clients
send a batch as so many requests.

Slots of many rows are memory that a pipeline of single rows never uses. So they are there if the config asks for them
(`ingress.rows`), or if it shows clients a batch axis (`serve.batched`); then as many rows as fit into slots of
`SMALL_BYTES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.graph.branches import has_branches, needs_of
from pipeline.graph.plan import StagePlan
from pipeline.graph.pools import input_bytes
from pipeline.graph.slots import slot_bytes
from shm.handle import ENCODED
from stages.spec import TensorSpec

__all__ = ["SMALL_BYTES", "Rows", "obstacle", "rows_of"]

SMALL_BYTES = 256 << 10
"""What a slot of several rows takes at most if the config does not ask for it: in a pool of four, 1 MiB."""


class Rows(NamedTuple):
    """How many rows one request may carry."""

    most: int
    why: str
    """Why not more; for a person."""


def rows_of(
    wanted: int | None,
    batched: int,
    inputs: Sequence[TensorSpec],
    stages: Sequence[StagePlan],
    in_parts: bool = False,
) -> Rows:
    """How many rows one request of a pipeline may carry.

    Args:
        wanted: what the config says; None: nothing.
        batched: rows of the largest request that a gateway takes; 0: it shows no batch axis.
        in_parts: whether answers may come in parts.
    """
    if (why := obstacle(inputs, stages, in_parts)) is not None:
        return Rows(1, why)
    if wanted is not None:
        return Rows(wanted, "ingress.rows says so")
    if not batched:
        return Rows(1, "set ingress.rows for more")
    if _largest(inputs, stages, batched) <= SMALL_BYTES:
        return Rows(batched, "that is the largest batch of serve.batched")
    # The largest number whose slots are small; by halves, for the sizes rise with it.
    low, high = 1, batched
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _largest(inputs, stages, middle) <= SMALL_BYTES else (low, middle)
    return Rows(low, f"more would take slots of over {SMALL_BYTES >> 10} KiB: set ingress.rows for more")


def obstacle(inputs: Sequence[TensorSpec], stages: Sequence[StagePlan], in_parts: bool = False) -> str | None:
    """Why requests of a pipeline have one row each; None if they may have several."""
    for spec in inputs:
        if not _is_fixed(spec):
            return f"input {spec.name} is not of one size"
    for stage in stages:
        if stage.when is not None:
            return f"stage {stage.name} runs only if `when:` holds, which each row decides for itself"
        for spec in (*stage.inputs, *stage.outputs):
            if spec.many is not None:
                return f"stage {stage.name} takes or gives many tensors of {spec.name} a row"
            if not _is_fixed(spec):
                return f"{spec.name} of stage {stage.name} is not of one size"
        if stage.scope:
            return f"stage {stage.name} runs for the children of a request"
    if in_parts:
        return "its answers come in parts"
    if has_branches(stages, needs_of(stages), ()):
        return "its stages stand on several branches"
    return None


def _is_fixed(spec: TensorSpec) -> bool:
    return spec.is_static and spec.dtype not in ENCODED and not spec.optional


def _largest(inputs: Sequence[TensorSpec], stages: Sequence[StagePlan], rows: int) -> int:
    """Bytes of the largest slot of a request of so many rows."""
    return max([input_bytes(inputs, rows), *[slot_bytes(stage.fields, rows) for stage in stages if stage.fields]])
