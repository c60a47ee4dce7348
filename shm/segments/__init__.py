"""The implementations of `shm.segment.Segment`, named in this one place.

    posix   a file in /dev/shm; the default
    sysv    System V shared memory, for hosts whose /dev/shm is small (64 MiB in many containers)
    file    a file in a folder of your choice, which processes of other users and containers can share
    local   memory of one process: tests, and pipelines that run in a single process
"""

from __future__ import annotations

from shm.errors import SegmentError
from shm.segment import Segment, SegmentAddress, SegmentSpec
from shm.segments.file import FileSegment
from shm.segments.local import LocalSegment
from shm.segments.posix import PosixSegment
from shm.segments.sysv import SysvSegment

__all__ = ["DEFAULT", "KINDS", "attach", "create"]

_IMPLEMENTATIONS: dict[str, type[Segment]] = {
    cls.kind: cls for cls in (PosixSegment, SysvSegment, FileSegment, LocalSegment)
}

KINDS = tuple(_IMPLEMENTATIONS)
"""Every kind that `create` and `attach` know."""

DEFAULT = PosixSegment.kind


def create(kind: str, spec: SegmentSpec) -> Segment:
    """Make a new segment of that kind.

    Raises:
        SegmentError: no such kind, the name is taken, or there is no room (see `shm.errors`).
    """
    return _implementation(kind).create(spec)


def attach(
    address: SegmentAddress | tuple[str, str], *, writable: bool = True, foreign: bool = False
) -> Segment:
    """Map the segment at that address.

    Args:
        writable, foreign: as for `Segment.attach`.

    Raises:
        SegmentError: no such kind, nothing there, or not a segment of ours (see `shm.errors`).
    """
    kind, name = address
    return _implementation(kind).attach(name, writable=writable, foreign=foreign)


def _implementation(kind: str) -> type[Segment]:
    try:
        return _IMPLEMENTATIONS[kind]
    except KeyError:
        raise SegmentError(f"no kind of segment {kind!r}; expected one of {', '.join(KINDS)}") from None
