"""BoundedStack: offsets into a block of fixed size, handed out upward, taken back all at once.

It holds no memory: an offset means something only to code that knows the block.
"""

from __future__ import annotations

from shm.errors import StackOverflow
from shm.layout import ALIGNMENT, round_up

__all__ = ["BoundedStack"]


class BoundedStack:
    """A bump allocator.

        0        allocated            nbytes
        ├──a──┬───b───┬┄┄┄┄ available ┄┄┄┤

    Each allocation is rounded up to `alignment`, so that the next one is aligned too.

    Raises:
        ValueError: a negative size, or an alignment that is no power of two.
    """

    __slots__ = ("alignment", "allocated", "nbytes")

    def __init__(self, nbytes: int, alignment: int = ALIGNMENT) -> None:
        if nbytes < 0:
            raise ValueError(f"expected a size of at least 0 bytes, found {nbytes}")
        if alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"expected a power of two as alignment, found {alignment}")
        self.nbytes = nbytes
        self.alignment = alignment
        #: Bytes that are taken, padding for the alignment included.
        self.allocated = 0

    @property
    def available(self) -> int:
        """Bytes that the next allocation can have at most."""
        return max(0, self.nbytes - self.allocated)

    def allocate(self, nbytes: int) -> int:
        """Take `nbytes`.

        Returns:
            The offset of the first, a multiple of `alignment`.

        Raises:
            StackOverflow: fewer bytes are left; nothing is taken.
            ValueError: `nbytes` is not positive.
        """
        if nbytes < 1:
            raise ValueError(f"expected at least 1 byte, found {nbytes}")
        if nbytes > self.available:
            raise StackOverflow(
                f"{nbytes} bytes do not fit, {self.available} of {self.nbytes} are left; reset it or make it larger"
            )
        offset = self.allocated
        self.allocated += round_up(nbytes, self.alignment)
        return offset

    def reset(self) -> None:
        """Take everything back: the offsets given out so far are no longer valid."""
        self.allocated = 0
