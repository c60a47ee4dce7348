"""Transfers: the fewest copies that move the rows of a batch between their slots and a device's dense batch.

    slots   |row 0|..|row 1|..|row 2|      |row 3|row 4|
               │        │        │             └──┬──┘
               └────────┼────────┘                │
              one copy of 3 rows, a pitch apart   one copy of both: they lie side by side
               ┌────────┴────────┐                │
    device  |row 0|row 1|row 2|row 3|row 4|

Pure: addresses in, copies out. An engine enqueues them; each takes the host microseconds, regardless of its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stages.engines.cuda import MAX_PITCH

__all__ = ["Transfer", "transfers_of"]


class Transfer(NamedTuple):
    """One copy: `rows` stretches of `nbytes`, `pitch` bytes apart in the slots, dense on the device."""

    offset: int
    """Bytes from the start of the device's batch."""
    address: int
    """Address of the first stretch in the slots."""
    nbytes: int
    pitch: int
    rows: int


def transfers_of(places: Iterable[tuple[int, object]], nbytes: int) -> list[Transfer]:
    """The copies for rows of `nbytes` each.

    Args:
        places: for every row its address and the owner of that memory: no copy spans the memory of two owners.
        nbytes: the bytes of each row, at least 1.
    """
    found: list[Transfer] = []
    offset = first = last = pitch = count = 0
    owner: object = None
    for address, root in places:
        step = address - last
        if count and root is owner and (step == pitch if count > 1 else nbytes <= step <= MAX_PITCH):
            pitch = step
            count += 1
        else:
            if count:
                found.append(_transfer(offset, first, nbytes, pitch, count))
                offset += count * nbytes
            first, owner, count, pitch = address, root, 1, nbytes
        last = address
    if count:
        found.append(_transfer(offset, first, nbytes, pitch, count))
    return found


def _transfer(offset: int, address: int, nbytes: int, pitch: int, rows: int) -> Transfer:
    if pitch == nbytes:
        return Transfer(offset, address, nbytes * rows, nbytes * rows, 1)
    return Transfer(offset, address, nbytes, pitch, rows)
