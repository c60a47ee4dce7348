"""Sealed memory: a file without a name that is given to one other process, and that neither can make smaller.

The kernel frees it with the last descriptor and mapping of it, however the processes end, so nothing is left of it that
would have to be found and removed. Its seals (memfd_create(2), fcntl(2)) hold for every process that has it: a peer
that is not trusted cannot truncate it, which would be SIGBUS for the one that reads it.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from shm.errors import NoRoom, SegmentCorrupt
from shm.segments.descriptor import NO_ROOM

__all__ = ["create", "map_received", "map_sealed"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(name: str, size: int) -> int:
    """A descriptor of so many zeros.

    Args:
        name: what it is called in /proc/<pid>/maps.
        size: in bytes, all of them reserved.

    Raises:
        NoRoom: there is no memory, or no descriptor.
    """
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Now, and not at the first touch: too little memory is an error here, and SIGBUS or worse there.
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        what = "there is no memory" if error.errno in NO_ROOM else "is `ulimit -n` reached?"
        raise NoRoom(f"{size} bytes of memory for {name} cannot be made: {error.strerror}; {what}") from error
    return fd


def map_sealed(fd: int, size: int) -> memoryview:
    """Map what `create` has made."""
    return memoryview(mmap.mmap(fd, size))


def map_received(fd: int, size: int) -> memoryview:
    """Map what another process has sent, if it is what `create` makes.

    Args:
        fd: of any file.
        size: what it must have.

    Raises:
        SegmentCorrupt: it is no sealed memory of that size.
    """
    try:
        # No other file has seals. Memory of large pages has, and could be missing at the first touch; but its size is
        # a multiple of 2 MiB.
        seals, found = fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.fstat(fd).st_size
    except OSError as error:
        raise SegmentCorrupt(f"expected sealed memory, found another file: {error.strerror}") from error
    if seals & _SEALS != _SEALS or found != size:
        raise SegmentCorrupt(
            f"expected {size} bytes that cannot become fewer (seals {_SEALS:#x}), found {found} with seals {seals:#x}"
        )
    try:
        return map_sealed(fd, size)
    except (OSError, ValueError) as error:
        raise SegmentCorrupt(f"sealed memory cannot be mapped: {error}") from error
