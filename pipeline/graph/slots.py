"""Slots: where a stage's outputs lie in its largest slot, and how many bytes that takes. Pure.

Workers need this too: nothing of the config is imported here, whose schema would take a third of their start.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.plan import Field
from shm.layout import ALIGNMENT, round_up
from stages.spec import TensorSpec

__all__ = ["fields_of", "places_of", "slot_bytes"]


def fields_of(outputs: Sequence[TensorSpec]) -> tuple[Field, ...]:
    """The outputs that have bytes of their own, laid one after the other."""
    fields = []
    offset = 0
    for spec in outputs:
        if spec.alias_of is None:
            fields.append(Field(spec, offset))
            offset = round_up(offset + spec.room)
    return tuple(fields)


def places_of(fields: Sequence[Field], rows: int) -> list[int]:
    """The offset of each field in a slot of so many rows: a tensor's rows lie one after the other, without a gap."""
    if rows == 1:
        return [field.offset for field in fields]
    places = []
    offset = 0
    for field in fields:
        places.append(offset)
        offset = round_up(offset + rows * field.spec.room)
    return places


def slot_bytes(fields: Sequence[Field], rows: int = 1) -> int:
    """Bytes of a slot with so many rows of these fields: a multiple of ALIGNMENT, and never 0."""
    ends = [place + rows * field.spec.room for place, field in zip(places_of(fields, rows), fields)]
    return max([ALIGNMENT, *(round_up(end) for end in ends)])
