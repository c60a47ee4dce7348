"""Slots: where a stage's outputs lie in its largest slot, and how many bytes that takes. Pure.

Workers need this too: nothing of the config is imported here, whose schema would take a third of their start.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.plan import Field
from shm.layout import ALIGNMENT, round_up
from stages.spec import TensorSpec

__all__ = ["fields_of", "slot_bytes"]


def fields_of(outputs: Sequence[TensorSpec]) -> tuple[Field, ...]:
    """The outputs that have bytes of their own, laid one after the other."""
    fields = []
    offset = 0
    for spec in outputs:
        if spec.alias_of is None:
            fields.append(Field(spec, offset))
            offset = round_up(offset + spec.room)
    return tuple(fields)


def slot_bytes(fields: Sequence[Field]) -> int:
    """Bytes of a slot with these fields: a multiple of ALIGNMENT, and never 0."""
    return max([ALIGNMENT, *(round_up(field.offset + field.spec.room) for field in fields)])
