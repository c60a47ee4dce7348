"""SlotPool: which slots of a segment are out, and for what.

Only the scheduler has pools: it alone writes the slot table, so shared memory has no lock that a dead
process could hold. All other processes read the table through `shm.view`. A pool never touches the bytes
of a slot.

                 loan                 commit                  borrow n
       ┌──────┐ ──────> ┌────────┐ ──────────> ┌───────────┐ ──────────> ┌──────────┐ ──┐ borrow: more readers
       │ FREE │         │ LOANED │             │ COMMITTED │             │ BORROWED │ <─┘ release: one reader less
       └──────┘ <────── └────────┘             └───────────┘             └──────────┘
          ^     abandon                 abandon      │                        │
          ├──────────────────────────────────────────┘                        │
          └───────────────────────────────────────────────────────────────────┘ release by the last reader

    state      who has the bytes                              generation
    FREE       no process                                     even
    LOANED     one writer; they are not valid yet             odd, the same
    COMMITTED  no process; valid, and they do not change      odd    until
    BORROWED   n readers; valid, and they do not change       odd    FREE

Which free slot a loan takes is the pool's order:

    STACK   the slot that came back last: its bytes are still in a cache
    RING    the slot after that of the last loan, and the first one after the last: slots that are loaned one
            after the other lie one after the other, so that a batch of them is one view

`commit` can name its readers as well: COMMITTED and BORROWED in one step.

`loan` and the return each add one to the slot's generation, so a handle of an earlier loan is
always recognised. A verb that carries an earlier generation raises StaleHandle; one that the state does
not allow is a bug in the caller and raises IllegalTransition with the slot's last events.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from shm.errors import HandleOutOfBounds, IllegalTransition, PoolExhausted, ShmError, StaleHandle
from shm.segment import Segment

__all__ = ["RING", "STACK", "TRANSITIONS", "SlotPool", "SlotState"]

STACK = "stack"
RING = "ring"


class SlotState(IntEnum):
    """The stages of a slot's life; see the drawing above."""

    FREE = 0
    LOANED = 1
    COMMITTED = 2
    BORROWED = 3


TRANSITIONS: dict[tuple[SlotState, str], tuple[SlotState, ...]] = {
    (SlotState.FREE, "loan"): (SlotState.LOANED,),
    (SlotState.LOANED, "commit"): (SlotState.COMMITTED, SlotState.BORROWED),
    (SlotState.LOANED, "abandon"): (SlotState.FREE,),
    (SlotState.COMMITTED, "borrow"): (SlotState.BORROWED,),
    (SlotState.COMMITTED, "abandon"): (SlotState.FREE,),
    (SlotState.BORROWED, "borrow"): (SlotState.BORROWED,),
    (SlotState.BORROWED, "release"): (SlotState.BORROWED, SlotState.FREE),
}
"""(state, verb) -> the states that it can lead to. Every other pair is illegal."""

# Plain ints: the hot path compares them a few times for every hop of every request.
_FREE, _LOANED, _COMMITTED, _BORROWED = (int(state) for state in SlotState)

_STORY_EVENTS = 256


class SlotPool:
    """The slots of one segment. Not thread-safe: one thread of one process."""

    __slots__ = (
        "_free", "_generations", "_name", "_next", "_readers", "_slots", "_stack", "_states", "_story", "_table",
    )  # fmt: skip

    def __init__(self, segment: Segment, order: str = STACK) -> None:
        """Take over the slot table of `segment`.

        Slots that an earlier pool had out come back, so that its handles are stale: make a second
        pool only when no process is left that could write through the first one's handles.

        Args:
            segment: the slots.
            order: STACK or RING.

        Raises:
            ValueError: there is no such order.
        """
        if order not in (STACK, RING):
            raise ValueError(f"expected the order {STACK!r} or {RING!r}, found {order!r}")
        self._name = f"{segment.layout.run}.{segment.layout.pool}"
        self._slots = segment.layout.slots
        self._table = segment.generations
        for slot, generation in enumerate(self._table):
            if generation & 1:
                self._table[slot] = generation + 1
        # The table's own values, as ints: reading a list is cheaper than reading a memoryview.
        self._generations: list[int] = list(self._table)
        #: One byte for each slot, so that memchr finds the next free one: 0.1 us over 4096 slots.
        self._states = bytearray(self._slots)
        self._readers = [0] * self._slots
        self._free = self._slots
        #: The free slots, the next one last; None in a ring, which looks into the states instead.
        self._stack = list(range(self._slots - 1, -1, -1)) if order == STACK else None
        #: The slot at which a ring looks first.
        self._next = 0
        self._story: deque[tuple[int, str, int]] = deque(maxlen=_STORY_EVENTS)

    # -- verbs ----------------------------------------------------------------------------------

    def loan(self) -> tuple[int, int]:
        """FREE -> LOANED: give a slot to one writer.

        Returns:
            (slot, generation). The first loan is slot 0; later ones follow the pool's order.

        Raises:
            PoolExhausted: no slot is free.
        """
        if not self._free:
            raise PoolExhausted(
                f"pool {self._name}: all {self._slots} slots are out; wait for one, refuse the request, "
                f"or give the pool more slots"
            )
        if self._stack is not None:
            slot = self._stack.pop()
        else:
            slot = self._states.find(_FREE, self._next)
            if slot < 0:
                slot = self._states.find(_FREE)
            self._next = slot + 1
        generation = self._generations[slot] + 1
        self._generations[slot] = self._table[slot] = generation
        self._states[slot] = _LOANED
        self._free -= 1
        self._story.append((slot, "loan", generation))
        return slot, generation

    def commit(self, slot: int, generation: int, readers: int = 0) -> None:
        """LOANED -> COMMITTED: the writer is done, the bytes are valid; `readers` borrow it at once.

        Raises:
            StaleHandle: the slot has come back since that generation.
            IllegalTransition: the slot is not loaned.
        """
        if not 0 <= slot < self._slots or self._generations[slot] != generation or self._states[slot] != _LOANED:
            raise self._refusal("commit", slot, generation)
        self._story.append((slot, "commit", generation))
        if readers:
            self._states[slot] = _BORROWED
            self._readers[slot] = readers
        else:
            self._states[slot] = _COMMITTED

    def borrow(self, slot: int, generation: int, readers: int = 1) -> None:
        """COMMITTED or BORROWED -> BORROWED: `readers` more readers have it.

        Raises:
            StaleHandle: the slot has come back since that generation.
            IllegalTransition: its bytes are not committed.
            ValueError: `readers` is not positive.
        """
        if readers < 1:
            raise ValueError(f"expected at least one reader, found {readers}")
        if not 0 <= slot < self._slots or self._generations[slot] != generation or self._states[slot] < _COMMITTED:
            raise self._refusal("borrow", slot, generation)
        self._states[slot] = _BORROWED
        self._readers[slot] += readers
        self._story.append((slot, "borrow", generation))

    def release(self, slot: int, generation: int) -> None:
        """One reader less; BORROWED -> FREE with the last one.

        Raises:
            StaleHandle: the slot has come back since that generation.
            IllegalTransition: it has no reader.
        """
        if not 0 <= slot < self._slots or self._generations[slot] != generation or self._states[slot] != _BORROWED:
            raise self._refusal("release", slot, generation)
        self._story.append((slot, "release", generation))
        readers = self._readers[slot] - 1
        self._readers[slot] = readers
        if not readers:
            self._return(slot, generation)

    def abandon(self, slot: int, generation: int) -> None:
        """LOANED or COMMITTED -> FREE: the writer died or failed, or no process will read the slot.

        Raises:
            StaleHandle: the slot has come back since that generation.
            IllegalTransition: it has readers.
        """
        if (
            not 0 <= slot < self._slots
            or self._generations[slot] != generation
            or not _LOANED <= self._states[slot] <= _COMMITTED
        ):
            raise self._refusal("abandon", slot, generation)
        self._story.append((slot, "abandon", generation))
        self._return(slot, generation)

    def _return(self, slot: int, generation: int) -> None:
        # The table before the free list: from now on every handle of this loan is refused.
        self._generations[slot] = self._table[slot] = generation + 1
        self._states[slot] = _FREE
        self._free += 1
        if self._stack is not None:
            self._stack.append(slot)

    # -- what a pool knows ------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many slots can be loaned."""
        return self._free

    @property
    def in_use(self) -> int:
        """How many slots are out."""
        return self._slots - self._free

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self._slots

    def state(self, slot: int) -> SlotState:
        return SlotState(self._states[slot])

    def readers(self, slot: int) -> int:
        """How many readers the slot has."""
        return self._readers[slot]

    def story(self, slot: int) -> list[str]:
        """The slot's last events, oldest first, as far as the pool's last 256 events reach."""
        return [f"{verb}@{generation}" for number, verb, generation in self._story if number == slot]

    def _refusal(self, verb: str, slot: int, generation: int) -> ShmError:
        where = f"pool {self._name}: {verb} of slot {slot} at generation {generation}"
        if not 0 <= slot < self._slots:
            return HandleOutOfBounds(f"{where}: expected a slot 0..{self._slots - 1}")
        current = self._generations[slot]
        if generation < current:
            return StaleHandle(f"{where}: the slot is at generation {current}; that loan is over, drop the message")
        state = SlotState(self._states[slot])
        allowed = ", ".join(name for start, name in TRANSITIONS if start is state)
        return IllegalTransition(
            f"{where}: the slot is {state.name} with {self._readers[slot]} readers at generation {current}, "
            f"which allows: {allowed}; its story: {' '.join(self.story(slot)) or 'no recent event'}"
        )
