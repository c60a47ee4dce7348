"""Slots: which slots a client may fill, and which it waits for or gives back. Pure.

What the scheduler grants becomes usable with the number of the message that brought it (`seen`), so that a message
may be taken in once more, after an interruption, without a slot being used twice.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Sequence

from pipeline.client.ask import Ask
from pipeline.client.draft import Filling
from pipeline.client.leases import Leases
from pipeline.errors import InvalidRequest
from pipeline.wire.limits import FEW_SLOTS
from pipeline.wire.messages import SlotRef

__all__ = ["Grant", "Slots"]

#: After an ask in vain, and with as many requests under way as then, another ask before this time is not worth a
#: message.
_FULL_NS = 20_000_000


class Grant:
    """A slot that the client may fill."""

    __slots__ = ("_ask", "_draft", "number", "slot")

    def __init__(self, slot: SlotRef, number: int) -> None:
        self.slot = slot
        #: Of the message that brought it.
        self.number = number
        self._draft: weakref.ref[Filling] | None = None
        self._ask: weakref.ref[Ask] | None = None

    @property
    def free(self) -> bool:
        """Whether neither a draft has it, nor an ask that was answered with it and has made no draft yet."""
        return self.draft is None and not self.kept

    @property
    def kept(self) -> bool:
        """Whether it is kept for an ask."""
        return self._ask is not None and self._ask() is not None

    def keep_for(self, ask: Ask) -> None:
        """Keep it for `ask`: nothing else takes it while that lives."""
        self._ask = weakref.ref(ask)

    def let_go(self, ask: Ask) -> None:
        """The reverse of `keep_for`."""
        if self._ask is not None and self._ask() is ask:
            self._ask = None

    @property
    def draft(self) -> Filling | None:
        """The draft that has it; None once that was dropped."""
        return None if self._draft is None else self._draft()

    @draft.setter
    def draft(self, draft: Filling) -> None:
        self._draft = weakref.ref(draft)
        self._ask = None


class Slots:
    """The slots of one scheduler's ingress segments, as far as they concern one client.

    Args:
        pools: by rising slot size: (slot bytes, segment number, slots).
    """

    def __init__(self, pools: Sequence[tuple[int, int, int]]) -> None:
        self._pools = pools
        self._grants: dict[int, dict[SlotRef, Grant]] = {segment: {} for _, segment, _ in pools}
        #: Granted slots that are not needed, until the scheduler has been told.
        self.returned: deque[SlotRef] = deque()
        #: Segments with an ask that may still be answered, and the number of the last one.
        self.unsettled: dict[int, int] = {}
        #: The latest ask that the scheduler has settled.
        self.settled = 0
        #: When (monotonic nanoseconds) an ask for a segment was last in vain, and how much was under way then.
        self._full: dict[int, tuple[int, int]] = {}

    def segment_for(self, nbytes: int, rows: int = 0) -> int:
        """The segment with the smallest slots that hold this many bytes; for several rows, the one of such requests.

        Raises:
            InvalidRequest: no slot does.
        """
        for slot_bytes, segment, _ in self._pools[-1:] if rows > 1 else self._pools:
            if nbytes <= slot_bytes:
                return segment
        raise InvalidRequest(f"the inputs take {nbytes} bytes; the largest slot has {self._pools[-1][0]}")

    def add(self, slots: Iterable[SlotRef], number: int) -> None:
        """Message `number` grants these slots. A second call does nothing more."""
        for slot in slots:
            self._grants[slot.segment][slot] = Grant(slot, number)

    def free(self, segment: int, seen: int) -> Grant | None:
        """A slot of the segment that no draft has.

        Args:
            seen: the number of the last message that was taken in to its end.
        """
        for grant in reversed(self._grants[segment].values()):
            if grant.number <= seen and grant.free:
                return grant
        return None

    def holds(self, slot: SlotRef) -> bool:
        """Whether the client may fill it."""
        return slot in self._grants.get(slot.segment, ())

    def remove(self, slot: SlotRef) -> Filling | None:
        """It must not be filled any more; returns the draft that has it, if there is one. A second call does
        nothing."""
        grant = self._grants.get(slot.segment, {}).pop(slot, None)
        return None if grant is None else grant.draft

    def give_back(self, slots: Iterable[SlotRef]) -> None:
        """Give these back to the scheduler."""
        for slot in slots:
            # In this order: after an interruption, what is in `returned` is removed once more.
            self.returned.append(slot)
            self.remove(slot)

    def drafts(self) -> list[Filling]:
        """The drafts that have a slot."""
        grants = [grant for grants in self._grants.values() for grant in grants.values()]
        return [draft for grant in grants if (draft := grant.draft) is not None]

    def keep(self, leases: Leases) -> None:
        """The client leaves: what is being filled is given back when the last array on it is gone (`Leases.keep`)."""
        for draft in self.drafts():
            draft.close()
            leases.keep(draft.slot, draft.inputs.values())

    def unused(self, segment: int) -> list[SlotRef]:
        """The slots of a segment that no draft has."""
        return [grant.slot for grant in self._grants[segment].values() if grant.free]

    @property
    def in_use(self) -> bool:
        """Whether a draft has one, or one is kept for a caller."""
        # A list: of a generator that a signal's handler ends by raising, Python complains.
        return bool([grant for grants in self._grants.values() for grant in grants.values() if not grant.free])

    def surplus(self, number: int, *, none: bool = False) -> list[SlotRef]:
        """No request is under way: give back the slots that are not needed.

        One slot that came with the last answer, in message `number`, stays for the next request, unless there are few.

        Args:
            number: of the message that is being taken in.
            none: no slot is needed any more.
        """
        if self.unsettled:
            return []
        free = []
        for grants in self._grants.values():
            for grant in grants.values():
                if grant.kept:
                    # Its caller is about to go on, and may need more of them.
                    return []
                if grant.free:
                    free.append(grant)
        if len(free) == 1 and free[0].number == number and not none:
            slots = {segment: slots for _, segment, slots in self._pools}
            if slots[free[0].slot.segment] >= FEW_SLOTS:
                return []
        return [grant.slot for grant in free]

    def looks_full(self, segment: int, under_way: int, now: int) -> bool:
        """Whether an ask would most likely be in vain: one was a moment ago, and no answer has come since."""
        at, then = self._full.get(segment, (0, 0))
        return 0 < then <= under_way and now - at < _FULL_NS

    def was_full(self, segment: int, under_way: int, now: int) -> None:
        """An ask was in vain."""
        self._full[segment] = now, under_way
