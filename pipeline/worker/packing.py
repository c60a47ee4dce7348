"""Packing: where outputs lie in a slot that is smaller than the stage's largest. Pure.

In the largest slot each output has its place, `Field.offset`, with room for the most that it may be. A smaller slot has
no such places: there outputs lie one after the other, as they are asked for.

    largest    |a................|b.......|c............|
    smaller    |a...|c|b..|
"""

from __future__ import annotations

from shm.layout import round_up

__all__ = ["Packing", "SlotTooSmall"]


class SlotTooSmall(Exception):
    """An output does not fit its slot. It does not matter how the stage handles this: the request runs again."""


class Packing:
    """The outputs of one request in its slot.

    Args:
        slot_bytes: of the slot, a multiple of ALIGNMENT.
    """

    __slots__ = ("_end", "_places", "_slot_bytes", "needed")

    def __init__(self, slot_bytes: int) -> None:
        self._slot_bytes = slot_bytes
        #: Output -> its offset and its bytes.
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        #: Bytes that the slot should have, as far as known; 0 while everything fits.
        self.needed = 0

    def next_part(self) -> None:
        """What was placed so far stays as it is: outputs that are asked for again lie behind it."""
        self._places.clear()

    def place(self, name: str, nbytes: int) -> int:
        """The offset of an output of so many bytes. Asked again, it stays where it is if it can.

        Raises:
            SlotTooSmall: it does not fit.
        """
        offset, room = self._places.get(name, (self._end, 0))
        is_last = offset + room == self._end
        if not is_last and nbytes <= room:
            return offset
        if not is_last:
            offset = self._end
        room = round_up(nbytes)
        if offset + room > self._slot_bytes:
            self.needed = max(self.needed, offset + room)
            raise SlotTooSmall(
                f"output {name!r}: {nbytes} bytes at {offset} do not fit a slot of {self._slot_bytes}; "
                "the request runs again with a larger one"
            )
        self._places[name] = offset, room
        self._end = offset + room
        return offset
