"""Every error of the shm package, split by who can act on it.

    ShmError
    ├── HandleRefused            the sender of a handle is wrong; nothing was read
    │   ├── StaleHandle          its slot has come back or was loaned again since
    │   ├── ForeignHandle        its segment is not attached here
    │   └── HandleOutOfBounds    its bytes do not lie inside its slot
    ├── MalformedElements        the sender of a tensor of bytes is wrong: what lies there is no such tensor
    ├── SegmentError             the machine or its operator
    │   ├── SegmentNotFound      no segment of that name (never made, or unlinked)
    │   ├── SegmentExists        the name is taken
    │   ├── SegmentForbidden     its permissions do not let this process open it
    │   ├── SegmentCorrupt       not a segment of ours, another version, or truncated
    │   ├── SegmentClosed        this process has closed it
    │   └── NoRoom               /dev/shm, a limit or a cgroup is too small for it
    ├── RingBroken               the other end of a ring has written what cannot be
    ├── NotInGroup               this process is no member of the group that it should share with
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
    "MalformedElements",
    "NoRoom",
    "NotInGroup",
    "OwnerAlive",
    "PoolExhausted",
    "RingBroken",
    "SegmentClosed",
    "SegmentCorrupt",
    "SegmentError",
    "SegmentExists",
    "SegmentForbidden",
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


class MalformedElements(ShmError):
    """The bytes of a tensor of dtype "bytes" are no such tensor. Nothing beyond them was read."""


class SegmentError(ShmError):
    """A segment could not be made, found or used."""


class SegmentNotFound(SegmentError):
    """No segment of that name exists."""


class SegmentExists(SegmentError):
    """A segment of that name exists already."""


class SegmentForbidden(SegmentError):
    """The segment is there, and its permissions, or those of its folder, do not let this process open it."""


class SegmentCorrupt(SegmentError):
    """The bytes are not a segment of ours, are of another version, or are fewer than the header says."""


class SegmentClosed(SegmentError):
    """The segment was used after this process had closed it."""


class NoRoom(SegmentError):
    """The segment does not fit into what the machine, a limit or a cgroup allows."""


class RingBroken(ShmError):
    """The other end of a ring has written what cannot be; nothing outside of the ring was touched. Let go of it."""


class NotInGroup(ShmError):
    """A file or folder should be opened to a group, and this process is no member of it."""


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
