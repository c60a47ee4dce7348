"""PosixSegment: a segment in /dev/shm, by shm_open(3).

Its name is "/trtlab.<run>.<pool>.<number>", which is also how `shm.leftovers` finds it.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
from contextlib import suppress

import posix_ipc

from shm.errors import NoRoom, SegmentCorrupt, SegmentError, SegmentExists, SegmentNotFound
from shm.layout import HEADER_BYTES, SegmentLayout
from shm.placement import room
from shm.segment import Segment, SegmentSpec

__all__ = ["PREFIX", "PosixSegment"]

PREFIX = "trtlab."
"""How the names of all our segments begin."""

_NAME = re.compile(rf"/{re.escape(PREFIX)}[A-Za-z0-9._-]{{1,240}}")
_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG)


class PosixSegment(Segment):
    """A segment that is a file in the tmpfs at /dev/shm."""

    kind = "posix"

    @classmethod
    def create(cls, spec: SegmentSpec) -> PosixSegment:
        layout = spec.layout()
        name = f"/{PREFIX}{spec.run}.{spec.pool}.{layout.number:08x}"
        try:
            shared = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError:
            raise SegmentExists(
                f"{name}: exists already in /dev/shm; `pipeline shm gc` removes what dead runs left"
            ) from None
        except OSError as error:
            raise SegmentError(f"{name}: cannot be made in /dev/shm: {error}") from error
        try:
            mapping = _fill(shared.fd, layout)
        except BaseException as error:
            posix_ipc.unlink_shared_memory(name)
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise NoRoom(
                    f"{name}: {spec.slots} slots of {layout.slot_bytes} B and a header need {layout.size} B; {room()}"
                ) from error
            raise
        finally:
            shared.close_fd()
        return cls(name, memoryview(mapping), layout, created=True)

    @classmethod
    def attach(cls, name: str) -> PosixSegment:
        # Some names crash posix_ipc 1.3.2 instead of being refused by it.
        if not _NAME.fullmatch(name):
            raise SegmentNotFound(f"{name!r}: expected a name such as /{PREFIX}run.pool.0badcafe")
        try:
            shared = posix_ipc.SharedMemory(name)
        except posix_ipc.ExistentialError:
            raise SegmentNotFound(f"{name}: not in /dev/shm: it was never made, or is unlinked") from None
        except posix_ipc.PermissionsError:
            raise SegmentError(f"{name}: belongs to another user; run both sides as one user") from None
        try:
            size = os.fstat(shared.fd).st_size
            layout = SegmentLayout.parse(os.pread(shared.fd, HEADER_BYTES, 0), name)
            layout.validate(size, name)
            mapping = mmap.mmap(shared.fd, size)
        except OSError as error:
            raise SegmentCorrupt(f"{name}: cannot be read: {error}") from error
        finally:
            shared.close_fd()
        return cls(name, memoryview(mapping), layout, created=False)

    def _remove(self) -> None:
        with suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(self.address.name)


def _fill(fd: int, layout: SegmentLayout) -> mmap.mmap:
    # The header first: reserving the rest takes seconds for gigabytes, and if the creator is killed
    # meanwhile, what it leaves can still be recognised as ours.
    if os.pwrite(fd, layout.pack(), 0) != HEADER_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Now and not at the first touch: a full tmpfs is an error here, and SIGBUS there.
    os.posix_fallocate(fd, 0, layout.size)
    return mmap.mmap(fd, layout.size)
