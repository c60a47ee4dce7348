"""Every error of the shm package, split by who can act on it.

    ShmError
    ├── HandleRefused            the sender of a handle is wrong; nothing was read
    │   ├── StaleHandle          its slot has come back or was loaned again since
    │   ├── ForeignHandle        its segment is not attached here
    │   └── HandleOutOfBounds    its bytes do not lie inside its slot
    ├── SegmentError             the machine or its operator
    │   ├── SegmentNotFound      no segment of that name (never made, or unlinked)
    │   ├── SegmentExists        the name is taken
    │   ├── SegmentCorrupt       not a segment of ours, another version, or truncated
    │   ├── SegmentClosed        this process has closed it
    │   └── NoRoom               /dev/shm, a limit or a cgroup is too small for it
    ├── OwnerAlive               the lock file belongs to a living process
    ├── PoolExhausted            no slot is free; wait or shed load
    ├── StackOverflow            an allocation is larger than what its stack can hold
    └── IllegalTransition        a bug in the caller: a verb that the slot's state does not allow

Each message says what was expected, what was found, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "ForeignHandle",
    "HandleOutOfBounds",
    "HandleRefused",
    "IllegalTransition",
    "NoRoom",
    "OwnerAlive",
    "PoolExhausted",
    "SegmentClosed",
    "SegmentCorrupt",
    "SegmentError",
    "SegmentExists",
    "SegmentNotFound",
    "ShmError",
    "StackOverflow",
    "StaleHandle",
]


class ShmError(Exception):
    """Base of every error of this package."""


class HandleRefused(ShmError):
    """A handle does not name bytes that may be read here. Nothing was read."""


class StaleHandle(HandleRefused):
    """The slot's generation is not the handle's: the slot has come back, and may hold another tensor now."""


class ForeignHandle(HandleRefused):
    """The handle names a segment that this process has not attached."""


class HandleOutOfBounds(HandleRefused):
    """Slot number, offset, dtype or shape lead outside the slot."""


class SegmentError(ShmError):
    """A segment could not be made, found or used."""


class SegmentNotFound(SegmentError):
    """No segment of that name exists."""


class SegmentExists(SegmentError):
    """A segment of that name exists already."""


class SegmentCorrupt(SegmentError):
    """The bytes are not a segment of ours, are of another version, or are fewer than the header says."""


class SegmentClosed(SegmentError):
    """The segment was used after this process had closed it."""


class NoRoom(SegmentError):
    """The segment does not fit into what the machine, a limit or a cgroup allows."""


class OwnerAlive(ShmError):
    """The lock file is held by a living process: what it owns may not be taken over or removed."""


class PoolExhausted(ShmError):
    """Every slot of the pool is taken."""


class StackOverflow(ShmError):
    """An allocation does not fit into what is left of its stack, or into any stack at all."""


class IllegalTransition(ShmError):
    """A slot was asked for something that its state does not allow.

    The message carries the slot's last events, so that the bug can be read from the log alone.
    """
