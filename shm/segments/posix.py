"""PosixSegment: a segment in /dev/shm, by shm_open(3).

Its name is "/trtlab.<run>.<pool>.<number>", which is also how `shm.leftovers` finds it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial

import posix_ipc

from shm.errors import NoRoom, SegmentError, SegmentExists, SegmentForbidden, SegmentNotFound
from shm.placement import room
from shm.segment import Segment, SegmentSpec
from shm.segments.descriptor import NO_ROOM, fill, map_checked

__all__ = ["PREFIX", "PosixSegment"]

PREFIX = "trtlab."
"""How the names of all our segments begin."""

_NAME = re.compile(rf"/{re.escape(PREFIX)}[A-Za-z0-9._-]{{1,240}}")


class PosixSegment(Segment):
    """A segment that is a file in the tmpfs at /dev/shm."""

    kind = "posix"

    @classmethod
    def create(cls, spec: SegmentSpec) -> PosixSegment:
        layout = spec.layout()
        name = f"/{PREFIX}{spec.run}.{spec.pool}.{layout.number:08x}"
        held: list[posix_ipc.SharedMemory] = []
        try:
            try:
                _make(held, name)
                mapping = fill(held[0].fd, layout)
            finally:
                for shared in held:
                    shared.close_fd()
            # With a name, and so within the block, when a handler that raises has its first moment.
            made = cls(name, memoryview(mapping), layout, created=True)
            return made  # noqa: RET504
        except BaseException as error:
            if held:
                posix_ipc.unlink_shared_memory(name)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise NoRoom(
                    f"{name}: {spec.slots} slots of {layout.slot_bytes} B and a header need {layout.size} B; {room()}"
                ) from error
            raise

    @classmethod
    def attach(cls, name: str, *, writable: bool = True, foreign: bool = False) -> PosixSegment:
        # Some names crash posix_ipc 1.3.2 instead of being refused by it.
        if not _NAME.fullmatch(name):
            raise SegmentNotFound(f"{name!r}: expected a name such as /{PREFIX}run.pool.0badcafe")
        held: list[posix_ipc.SharedMemory] = []
        try:
            _open(held, name, writable)
            mapping, layout = map_checked(held[0].fd, name, writable)
        finally:
            for shared in held:
                shared.close_fd()
        return cls(name, mapping, layout, created=False)

    def _remove(self) -> None:
        with suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(self.address.name)


def _make(held: list[posix_ipc.SharedMemory], name: str) -> None:
    """Make an empty segment, which is held."""
    try:
        held.extend(map(posix_ipc.SharedMemory, (name,), (posix_ipc.O_CREX,), (0o600,)))
    except posix_ipc.ExistentialError:
        raise SegmentExists(
            f"{name}: exists already in /dev/shm; `pipeline shm gc` removes what dead runs left"
        ) from None
    except OSError as error:
        raise SegmentError(f"{name}: cannot be made in /dev/shm: {error}") from error


def _open(held: list[posix_ipc.SharedMemory], name: str, writable: bool) -> None:
    """Open a segment that is there; it is held."""
    try:
        held.extend(map(partial(posix_ipc.SharedMemory, read_only=not writable), (name,)))
    except posix_ipc.ExistentialError:
        raise SegmentNotFound(f"{name}: not in /dev/shm: it was never made, or is unlinked") from None
    except posix_ipc.PermissionsError:
        raise SegmentForbidden(
            f"{name}: belongs to another user; run both sides as one user, or give the pipeline a folder and a "
            f"group (segments: {{dir: ..., group: ...}})"
        ) from None
