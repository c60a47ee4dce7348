"""What segments that are files have in common: a descriptor is filled, or checked and mapped.

A signal's handler that raises may do so after each call, before its result has a name. So what has a descriptor is put
into a list by the same call, one of C, that opens it, and what is in the list is closed:

    held = []
    try:
        held.extend(map(os.open, (name,), (flags,)))
        ...
    finally:
        for fd in held:
            os.close(fd)
"""

from __future__ import annotations

import errno
import mmap
import os

from shm.errors import SegmentCorrupt
from shm.layout import HEADER_BYTES, SegmentLayout

__all__ = ["NO_ROOM", "fill", "map_checked"]

NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT)
"""What the kernel answers if there is no room."""


def fill(fd: int, layout: SegmentLayout) -> mmap.mmap:
    """Make an empty file the segment of that layout, with all its memory reserved.

    Raises:
        OSError: there is no room.
    """
    # The header first: reserving the rest takes seconds for gigabytes, and if the creator is killed
    # meanwhile, what it leaves can still be recognised as ours.
    if os.pwrite(fd, layout.pack(), 0) != HEADER_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Now and not at the first touch: a full tmpfs is an error here, and SIGBUS there.
    os.posix_fallocate(fd, 0, layout.size)
    return mmap.mmap(fd, layout.size)


def map_checked(fd: int, name: str, writable: bool) -> tuple[memoryview, SegmentLayout]:
    """The mapping of a file that should be a segment, and its layout.

    Raises:
        SegmentCorrupt: it is none of ours, of another version, or truncated.
    """
    try:
        size = os.fstat(fd).st_size
        layout = SegmentLayout.parse(os.pread(fd, HEADER_BYTES, 0), name)
        layout.validate(size, name)
        mapping = mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
    except OSError as error:
        raise SegmentCorrupt(f"{name}: cannot be read: {error}") from error
    return memoryview(mapping), layout
