"""CyclicAllocator: a ring of stacks, each in a slot of its own.

For a process that makes many tensors of different sizes, which others finish with in roughly the
order they were made. It allocates from one stack until a request does not fit, then loans the next
slot; a slot comes back when the last of its allocations is released.

    slot 3   ├─a─┬──b──┬─c─┤░      full: comes back when a, b and c are released
    slot 1   ├──d──┬─e─┤┄┄┄┄┄      the current stack
    slot 0   ├┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄      free

It does what tensorrt-laboratory's allocator of that name does, with three differences: it never blocks,
a request that can never fit is an error and not an abort, and a stack whose allocations are all released
comes back at once, even while it is the current one. Each life of a stack is a loan of its slot, so a handle into an
earlier life is stale and refused.

Size the slots at twice the largest allocation or more (the tail of each is lost), and have enough of
them that consumers finish the first before the last is full.
"""

from __future__ import annotations

from types import TracebackType

from shm.allocators.stack import BoundedStack
from shm.errors import IllegalTransition, StackOverflow
from shm.layout import ALIGNMENT
from shm.pool import SlotPool

__all__ = ["CyclicAllocator", "CyclicLease"]


class _Life:
    """One loan of a slot, and the stack in it."""

    __slots__ = ("generation", "leases", "slot", "stack")

    def __init__(self, slot: int, generation: int, stack: BoundedStack) -> None:
        self.slot = slot
        self.generation = generation
        self.stack = stack
        self.leases = 0


class CyclicLease:
    """Bytes of a slot, until `release`. Its fields are those of the handle that names them."""

    __slots__ = ("_allocator", "_life", "nbytes", "offset")

    def __init__(self, allocator: CyclicAllocator, life: _Life, offset: int, nbytes: int) -> None:
        self._allocator: CyclicAllocator | None = allocator
        self._life = life
        self.offset = offset
        """Bytes from the start of the slot."""
        self.nbytes = nbytes

    @property
    def slot(self) -> int:
        return self._life.slot

    @property
    def generation(self) -> int:
        return self._life.generation

    def release(self) -> None:
        """Give the bytes back.

        Raises:
            IllegalTransition: the bytes were given back already.
        """
        if self._allocator is None:
            raise IllegalTransition(f"{self!r}: released twice")
        allocator, self._allocator = self._allocator, None
        allocator._release(self._life)

    def __enter__(self) -> CyclicLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<lease of slot {self.slot}@{self.generation} [{self.offset}:{self.offset + self.nbytes}]>"


class CyclicAllocator:
    """Allocations of any size up to a slot's, from the slots of one pool. Not thread-safe.

    Other loans of the same pool may go on beside it.
    """

    __slots__ = ("_current", "_pool", "alignment", "max_allocation")

    def __init__(self, pool: SlotPool, slot_bytes: int, alignment: int = ALIGNMENT) -> None:
        """Allocate from `pool`, whose slots hold `slot_bytes` each.

        Raises:
            ValueError: a stack of that size cannot be made (see BoundedStack).
        """
        BoundedStack(slot_bytes, alignment)
        self._pool = pool
        self._current: _Life | None = None
        self.alignment = alignment
        self.max_allocation = slot_bytes
        """Bytes of the largest request that can succeed."""

    @property
    def available_stacks(self) -> int:
        """Free slots, beside the current stack."""
        return self._pool.free

    @property
    def available_bytes(self) -> int:
        """Bytes left in the current stack and in the free slots."""
        current = self._current.stack.available if self._current is not None else 0
        return current + self._pool.free * self.max_allocation

    def allocate(self, nbytes: int) -> CyclicLease:
        """Take `nbytes`, aligned.

        Raises:
            PoolExhausted: the bytes do not fit into the current stack, and no slot is free.
            StackOverflow: `nbytes` is more than a slot holds; waiting does not help.
            ValueError: `nbytes` is not positive.
        """
        if nbytes < 1:
            raise ValueError(f"expected at least 1 byte, found {nbytes}")
        if nbytes > self.max_allocation:
            raise StackOverflow(f"{nbytes} bytes never fit: a slot holds {self.max_allocation}; make the slots larger")
        life = self._current
        if life is None or nbytes > life.stack.available:
            # Loaned before the current stack is given up: if the pool is exhausted, the rest of the
            # current stack still serves smaller requests.
            slot, generation = self._pool.loan()
            life = self._current = _Life(slot, generation, BoundedStack(self.max_allocation, self.alignment))
        offset = life.stack.allocate(nbytes)
        life.leases += 1
        if not life.stack.available:
            self._current = None
        return CyclicLease(self, life, offset, nbytes)

    def _release(self, life: _Life) -> None:
        life.leases -= 1
        if not life.leases:
            if self._current is life:
                self._current = None
            self._pool.abandon(life.slot, life.generation)
