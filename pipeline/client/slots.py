"""Slots: which slots a client may fill, and which it waits for or gives back. Pure.

What the scheduler grants becomes usable with the number of the message that brought it (`seen`), so that a message
may be taken in once more, after an interruption, without a slot being used twice.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Iterable

from pipeline.client.draft import Draft
from pipeline.errors import InvalidRequest
from pipeline.wire.limits import FEW_SLOTS
from pipeline.wire.messages import SlotRef

__all__ = ["Grant", "Slots"]

#: After an ask in vain, and with as much under way as then, another one is not worth a message before this time.
_FULL_S = 0.02


class Grant:
    """A slot that the client may fill."""

    __slots__ = ("_draft", "number", "slot")

    def __init__(self, slot: SlotRef, number: int) -> None:
        self.slot = slot
        #: Of the message that brought it.
        self.number = number
        self._draft: weakref.ref[Draft] | None = None

    @property
    def draft(self) -> Draft | None:
        """The draft that has it; one that was dropped has it no more."""
        return None if self._draft is None else self._draft()

    @draft.setter
    def draft(self, draft: Draft) -> None:
        self._draft = weakref.ref(draft)


class Slots:
    """The slots of one scheduler's ingress segments, as far as they concern one client.

    Args:
        pools: by rising slot size: (slot bytes, segment number, slots).
    """

    def __init__(self, pools: list[tuple[int, int, int]]) -> None:
        self._pools = pools
        self._grants: dict[int, dict[SlotRef, Grant]] = {segment: {} for _, segment, _ in pools}
        #: Granted slots that are not needed, until the scheduler has been told.
        self.returned: deque[SlotRef] = deque()
        #: Segments with an ask that may still be answered.
        self.asking: set[int] = set()
        #: The latest ask that the scheduler has settled.
        self.settled = 0
        #: When an ask for a segment was last in vain, and how much was under way then.
        self._full: dict[int, tuple[float, int]] = {}

    def segment_for(self, nbytes: int) -> int:
        """The segment with the smallest slots that hold so many bytes.

        Raises:
            InvalidRequest: no slot does.
        """
        for slot_bytes, segment, _ in self._pools:
            if nbytes <= slot_bytes:
                return segment
        raise InvalidRequest(f"the inputs take {nbytes} bytes; the largest slot has {self._pools[-1][0]}")

    def add(self, slots: Iterable[SlotRef], number: int) -> None:
        """Message `number` grants these slots. Again: nothing more."""
        for slot in slots:
            self._grants[slot.segment][slot] = Grant(slot, number)

    def free(self, segment: int, seen: int) -> Grant | None:
        """A slot of the segment that no draft has.

        Args:
            seen: the number of the last message that was taken in to its end.
        """
        for grant in reversed(self._grants[segment].values()):
            if grant.draft is None and grant.number <= seen:
                return grant
        return None

    def holds(self, slot: SlotRef) -> bool:
        """Whether the client may fill it."""
        return slot in self._grants.get(slot.segment, ())

    def remove(self, slot: SlotRef) -> Draft | None:
        """It is not to be filled any more; the draft that has it, if there is one. Again: nothing."""
        grant = self._grants.get(slot.segment, {}).pop(slot, None)
        return None if grant is None else grant.draft

    def give_back(self, slots: Iterable[SlotRef]) -> None:
        """The scheduler shall have these again."""
        for slot in slots:
            # In this order: what is in `returned` is removed once more after an interruption.
            self.returned.append(slot)
            self.remove(slot)

    def drafts(self) -> list[Draft]:
        """The drafts that have a slot."""
        grants = [grant for grants in self._grants.values() for grant in grants.values()]
        return [draft for grant in grants if (draft := grant.draft) is not None]

    def unused(self, segment: int) -> list[SlotRef]:
        """The slots of a segment that no draft has."""
        return [grant.slot for grant in self._grants[segment].values() if grant.draft is None]

    def surplus(self, number: int) -> list[SlotRef]:
        """Nothing is under way: what to give back.

        One slot that came with the last answer, in message `number`, stays for the next request, unless there are few.
        """
        if self.asking:
            return []
        free = [grant for grants in self._grants.values() for grant in grants.values() if grant.draft is None]
        if len(free) == 1 and free[0].number == number:
            slots = {segment: slots for _, segment, slots in self._pools}
            if slots[free[0].slot.segment] >= FEW_SLOTS:
                return []
        return [grant.slot for grant in free]

    def looks_full(self, segment: int, under_way: int) -> bool:
        """Whether an ask would most likely be in vain: one was a moment ago, and no answer has come since."""
        at, then = self._full.get(segment, (0.0, 0))
        return 0 < then <= under_way and time.monotonic() - at < _FULL_S

    def was_full(self, segment: int, under_way: int) -> None:
        """An ask was in vain."""
        self._full[segment] = time.monotonic(), under_way
