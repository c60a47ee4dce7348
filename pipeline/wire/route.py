"""Route: the later hops of an order, packed: what each worker hands on without taking it apart.

    0       2         4        8         12      16               24
    +-------+---------+--------+---------+-------+----------------+
    | stage | missing | worker | segment | slot  | generation     |   little-endian; then the hop after it
    +-------+---------+--------+---------+-------+----------------+

The rest of a hop is in the compiled plan, which every worker has: what the stage reads, and whether the scheduler waits
for its notice. So what a worker does for an order is the same however many hops are left.
"""

from __future__ import annotations

import struct

__all__ = ["HOP_BYTES", "MOST_INPUTS", "first_of", "hops_of", "packed"]

_HOP = struct.Struct("<HHIIIQ")

HOP_BYTES = _HOP.size

MOST_INPUTS = 16
"""The inputs of a stage for which `missing` has a bit."""

Packed = tuple[int, int, int, int, int, int]
"""Stage; a mask of its inputs that are missing, since a stage was skipped; worker; and the slot to fill: segment, slot,
generation; generation 0: the stage gives no bytes of its own."""


def packed(stage: int, missing: int, worker: int, segment: int, slot: int, generation: int) -> bytes:
    """One hop. A route is such hops, one after the other."""
    return _HOP.pack(stage, missing, worker, segment, slot, generation)


def first_of(route: bytes) -> Packed:
    """The first hop of a route that has one; the rest of it is `route[HOP_BYTES:]`."""
    return _HOP.unpack_from(route)


def hops_of(route: bytes) -> list[Packed]:
    """Every hop of a route."""
    return list(_HOP.iter_unpack(route))
