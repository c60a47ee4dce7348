"""Bell: wakes a client's I/O thread, without its mutex."""

from __future__ import annotations

import os

__all__ = ["Bell"]


class Bell:
    """Wakes an I/O thread. What may call at any point, such as a finaliser, refers to this alone."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.process = os.getpid()
        #: The client was dropped: the I/O thread closes it.
        self.abandoned = False

    def __del__(self) -> None:
        # Only now, when no caller is left that may ring.
        if (descriptor := getattr(self, "descriptor", -1)) >= 0:
            os.close(descriptor)

    def ring(self) -> None:
        """Have the I/O thread do a step now. The bell is the parent's as well: a child does nothing."""
        if os.getpid() == self.process:
            os.eventfd_write(self.descriptor, 1)

    def abandon(self) -> None:
        """The client was dropped."""
        self.abandoned = True
        self.ring()
