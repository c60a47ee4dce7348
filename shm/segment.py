"""Segment: the contract of one piece of shared memory that is cut into slots.

Implementations are in `shm.segments`; all other code names a segment by its `SegmentAddress` and uses
`shm.segments.create` and `shm.segments.attach`.

Life and death of the memory:

    create ──> attach (any number of processes) ──> close ──> the mapping goes with its last view
       └─────────────────────────────────────────── unlink: the name goes, mappings stay valid

- `close` never crashes a view: numpy arrays and memoryviews over the segment keep the mapping alive,
  and it is unmapped when the last of them is gone. Before Python 3.13 an mmap keeps a duplicate of
  its file descriptor until then.
- Only the creator may call `unlink`, and always explicitly; a destructor unlinks nothing.
  `shm.leftovers` finds what a killed creator leaves behind.
- Nothing here knows which slot belongs to whom: see `shm.pool`.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import NamedTuple

import msgspec

from shm.errors import SegmentClosed, SegmentError
from shm.layout import SegmentLayout
from shm.owner import start_ticks

__all__ = ["Segment", "SegmentAddress", "SegmentSpec"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class SegmentAddress(NamedTuple):
    """What another process needs in order to attach: two strings."""

    kind: str
    """One of `shm.segments.KINDS`."""
    name: str
    """The name that this kind gave it."""


class SegmentSpec(msgspec.Struct, frozen=True):
    """What a new segment must be.

    Raises:
        ValueError: a name that cannot be part of a file name, or numbers of which no segment can be made.
    """

    run: str
    """Name of the pipeline run: letters, digits, dot, dash, underscore."""
    pool: str
    """Name of the pool within the run; same letters."""
    slot_bytes: int
    """Bytes that a slot must hold; rounded up to a multiple of 64."""
    slots: int
    lock_path: str = ""
    """Path of the lock file that the owner holds (`shm.owner.OwnerLock`); without one, no process can
    ever tell that the owner is dead, and what it leaves behind is never collected."""
    number: int | None = None
    """The segment's number; None: drawn at random."""
    folder: str = ""
    """The folder of a segment that is a file, as an absolute path; other kinds take no notice of it."""

    def __post_init__(self) -> None:
        for field, text in (("run", self.run), ("pool", self.pool)):
            if not _NAME.fullmatch(text):
                raise ValueError(f"{field}: expected up to 64 of A-Z a-z 0-9 . _ -, not a dot first; found {text!r}")
        self.layout()

    def layout(self) -> SegmentLayout:
        """The layout of a segment that this process creates now; draws the number if none was given."""
        drawn = 1 + int.from_bytes(os.urandom(8), "little") % ((1 << 32) - 1)
        return SegmentLayout.build(
            number=drawn if self.number is None else self.number,
            slots=self.slots,
            slot_bytes=self.slot_bytes,
            run=self.run,
            pool=self.pool,
            lock_path=self.lock_path,
            owner_pid=os.getpid(),
            owner_start=start_ticks(),
            created_ns=time.time_ns(),
        )


class Segment(ABC):
    """A mapped segment. `create` and `attach` make one; do not call the constructor."""

    kind: str

    def __init__(self, name: str, mapping: memoryview, layout: SegmentLayout, *, created: bool) -> None:
        self.address = SegmentAddress(self.kind, name)
        self.layout = layout
        self.number = layout.number
        self._created = created
        self._linked = created
        self._buffer: memoryview | None = mapping
        self._generations: memoryview | None = mapping[layout.table].cast("Q")

    # -- what an implementation adds ------------------------------------------------------------

    @classmethod
    @abstractmethod
    def create(cls, spec: SegmentSpec) -> Segment:
        """Make a new segment, readable and writable by this user alone; all its memory is reserved.

        Raises:
            SegmentExists: the name is taken.
            NoRoom: it does not fit; nothing is left behind.
        """

    @classmethod
    @abstractmethod
    def attach(cls, name: str, *, writable: bool = True, foreign: bool = False) -> Segment:
        """Map the segment of that name.

        Args:
            writable: whether this process may write into it; otherwise the kernel keeps it from that.
            foreign: whether it may be another user's, as it is for clients of a pod; a process of the run itself takes
                only what its own user has made.

        Raises:
            SegmentNotFound: there is no segment of that name (never made, or unlinked).
            SegmentForbidden: it is another user's, or its group's, and this process may not open it.
            SegmentCorrupt: not a segment of ours, another version, truncated, or put there by another user.
        """

    @abstractmethod
    def _remove(self) -> None:
        """Remove the name from the system; it is no error if the name is gone already."""

    # -- what is mapped -------------------------------------------------------------------------

    @property
    def buffer(self) -> memoryview:
        """The whole mapping, bytes; writable unless it was attached otherwise.

        Raises:
            SegmentClosed: this process has closed it.
        """
        if self._buffer is None:
            raise SegmentClosed(f"{self!r}: used after close")
        return self._buffer

    @property
    def generations(self) -> memoryview:
        """The slot table: one u64 for each slot; only the scheduler writes it.

        Raises:
            SegmentClosed: this process has closed it.
        """
        if self._generations is None:
            raise SegmentClosed(f"{self!r}: used after close")
        return self._generations

    @property
    def closed(self) -> bool:
        return self._buffer is None

    def slot(self, slot: int) -> memoryview:
        """The bytes of one slot, writable unless the segment was attached otherwise.

        Raises:
            IndexError: there is no such slot.
            SegmentClosed: this process has closed it.
        """
        if not 0 <= slot < self.layout.slots:
            raise IndexError(f"{self!r}: expected a slot 0..{self.layout.slots - 1}, found {slot}")
        start = self.layout.slot_offset(slot)
        return self.buffer[start : start + self.layout.slot_bytes]

    def open_to(self, group: int, mode: int) -> None:
        """Open a segment that was created here to a group, if it is of a kind that can be.

        Args:
            group: the number of the group.
            mode: its permissions from now on: 0640 if the group may read it, 0660 if it may write it, too.

        Raises:
            SegmentError: only segments that are files can be opened to a group.
            NotInGroup: this process is no member of the group.
        """
        raise SegmentError(f"{self!r}: a segment of this kind is its user's alone; make it a file to share it")

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the mapping; it lasts until its last view is gone. A second call does nothing."""
        # Drop references and release no buffers: a release would raise BufferError under a living
        # view, and a forced unmap would make the next touch of that view a segfault.
        self._buffer = self._generations = None

    def unlink(self) -> None:
        """Remove the name: no process can attach any more; mappings stay valid. If the name is gone, this does nothing.

        Raises:
            SegmentError: this process attached it; only its creator may unlink.
        """
        if not self._created:
            raise SegmentError(f"{self!r}: was attached here, not created; only its creator may unlink it")
        if self._linked:
            self._linked = False
            self._remove()

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it, and unlink it if it was created here."""
        self.close()
        if self._created:
            self.unlink()

    def __repr__(self) -> str:
        layout = self.layout
        return f"<segment {self.address.kind}:{self.address.name} {layout.slots} x {layout.slot_bytes} B>"
