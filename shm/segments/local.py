"""LocalSegment: a segment that only this process knows. For tests and the single-process mode.

It has the same header and slot table as the others, in anonymous memory, and it keeps their rules:
a segment lives until it is unlinked, and code that has attached keeps it beyond that.
"""

from __future__ import annotations

import mmap

from shm.errors import NoRoom, SegmentExists, SegmentNotFound
from shm.layout import HEADER_BYTES, SegmentLayout
from shm.segment import Segment, SegmentSpec

__all__ = ["LocalSegment"]

#: The segments of this process by name: what /dev/shm is for posix.
_LINKED: dict[str, mmap.mmap] = {}


class LocalSegment(Segment):
    """A segment in anonymous memory of this process."""

    kind = "local"

    @classmethod
    def create(cls, spec: SegmentSpec) -> LocalSegment:
        layout = spec.layout()
        name = f"{spec.run}.{spec.pool}.{layout.number:08x}"
        if name in _LINKED:
            raise SegmentExists(f"{name}: exists already in this process")
        try:
            mapping = mmap.mmap(-1, layout.size)
        except OSError as error:
            raise NoRoom(f"{name}: {layout.size} B of anonymous memory: {error.strerror}") from error
        mapping[:HEADER_BYTES] = layout.pack()
        _LINKED[name] = mapping
        return cls(name, memoryview(mapping), layout, created=True)

    @classmethod
    def attach(cls, name: str, *, writable: bool = True, foreign: bool = False) -> LocalSegment:
        try:
            mapping = _LINKED[name]
        except KeyError:
            raise SegmentNotFound(f"{name}: there is no segment of that name in this process") from None
        layout = SegmentLayout.parse(mapping[:HEADER_BYTES], name)
        layout.validate(len(mapping), name)
        view = memoryview(mapping)
        return cls(name, view if writable else view.toreadonly(), layout, created=False)

    def _remove(self) -> None:
        _LINKED.pop(self.address.name, None)
