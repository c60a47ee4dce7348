"""SegmentLayout: the byte map of a segment, as a value.

Every process that maps a segment reads it from here; nothing here maps memory or does other I/O.

    offset  bytes  field
         0      8  magic            "TRTLABSM"
         8      4  version          u32, of this map
        12      4  header bytes     u32, where the slot table begins
        16      4  segment number   u32, random, never 0
        20      4  slots            u32
        24      8  slot bytes       u64, stride from slot to slot, a multiple of 64
        32      8  data offset      u64, where slot 0 begins, page aligned
        40      8  size             u64, bytes of the whole segment, a multiple of the page
        48      8  owner pid        u64, in the pid namespace of the owner
        56      8  owner start      u64, clock ticks since boot (/proc/<pid>/stat, field 22)
        64      8  created          u64, nanoseconds since 1970
        72     64  run              UTF-8, padded with NUL
       136     64  pool             UTF-8, padded with NUL
       200    824  lock path        UTF-8, padded with NUL; the owner holds a lock on this file while it lives
      1024  8 * n  slot table       u64 generation of each of the n slots
       ...         (to the page)
      data  n * stride              slot 0, slot 1, ...
       ...         (to the page)

All numbers are little-endian. The header is written once, before another process can know the
segment; afterwards only the slot table changes. A slot's generation goes up by one when it is loaned
and by one when it comes back, so it is *odd while the slot is out* and even while it is free. One
process alone writes the table (see `shm.pool`); an aligned 8-byte store cannot be torn, so readers
need no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable

import msgspec

from shm.errors import SegmentCorrupt

__all__ = ["ALIGNMENT", "HEADER_BYTES", "MAGIC", "VERSION", "SegmentLayout", "ceil_div", "round_up"]

MAGIC = b"TRTLABSM"
VERSION = 1
HEADER_BYTES = 1024
ALIGNMENT = 64
"""Bytes to which slots are aligned: a cache line, and what vector loads want."""

_HEADER = struct.Struct("<8sIIIIQQQQQQ64s64s824s")
_TEXT_LIMITS = {"run": 64, "pool": 64, "lock_path": 824}
_MAX_SLOTS = 1 << 20
_MAX_BYTES = 1 << 48
assert _HEADER.size == HEADER_BYTES


def ceil_div(n: int, by: int) -> int:
    """`n / by`, rounded up to a whole number: how many parts of `by` hold `n`."""
    return -(-n // by)


def round_up(n: int, to: int = ALIGNMENT) -> int:
    """`n` rounded up to a multiple of `to`."""
    return -(-n // to) * to


class SegmentLayout(msgspec.Struct, frozen=True):
    """What the header of one segment says. Make it with `build` or `parse`; both check it."""

    number: int
    """Random 32-bit number, never 0, by which handles name the segment."""
    slots: int
    slot_bytes: int
    """Stride from slot to slot in bytes, a multiple of 64."""
    data_offset: int
    """Bytes from the start of the segment to slot 0, page aligned."""
    size: int
    """Bytes of the whole segment."""
    run: str
    """Name of the pipeline run to which it belongs."""
    pool: str
    """Name of the pool within the run."""
    lock_path: str
    """Path of the owner's lock file; empty if there is none."""
    owner_pid: int
    owner_start: int
    """Start of the owner in clock ticks since boot: with the pid it names one process for people."""
    created_ns: int
    """Unix time of creation in nanoseconds."""

    @staticmethod
    def total_bytes(slots: int, slot_bytes: int) -> int:
        """Bytes that a segment of `slots` slots of at least `slot_bytes` each will take, header included."""
        stride = round_up(slot_bytes, ALIGNMENT)
        return round_up(round_up(HEADER_BYTES + 8 * slots, mmap.PAGESIZE) + slots * stride, mmap.PAGESIZE)

    @classmethod
    def build(
        cls,
        *,
        number: int,
        slots: int,
        slot_bytes: int,
        run: str,
        pool: str,
        lock_path: str,
        owner_pid: int,
        owner_start: int,
        created_ns: int,
    ) -> SegmentLayout:
        """The layout of a new segment. `slot_bytes` is rounded up to a multiple of 64.

        Raises:
            ValueError: a number out of range or a text that does not fit into its field.
        """
        for name, text in (("run", run), ("pool", pool), ("lock_path", lock_path)):
            if len(os.fsencode(text)) > _TEXT_LIMITS[name] or "\0" in text:
                raise ValueError(f"{name}: expected at most {_TEXT_LIMITS[name]} bytes without NUL, found {text!r}")
        layout = cls(
            number=number,
            slots=slots,
            slot_bytes=round_up(slot_bytes, ALIGNMENT),
            data_offset=round_up(HEADER_BYTES + 8 * slots, mmap.PAGESIZE),
            size=cls.total_bytes(slots, slot_bytes),
            run=run,
            pool=pool,
            lock_path=lock_path,
            owner_pid=owner_pid,
            owner_start=owner_start,
            created_ns=created_ns,
        )
        layout._check(ValueError, "a new segment")
        return layout

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, where: str = "the segment") -> SegmentLayout:
        """Read the header at the start of `data`.

        Args:
            data: at least the first HEADER_BYTES bytes of a segment.
            where: the segment's name for messages.

        Raises:
            SegmentCorrupt: too short, not ours, another version, or numbers that contradict each other.
        """
        if len(data) < HEADER_BYTES:
            raise SegmentCorrupt(f"{where}: truncated; expected a header of {HEADER_BYTES} bytes, found {len(data)}")
        (
            magic, version, header_bytes, number, slots, slot_bytes, data_offset, size,
            owner_pid, owner_start, created_ns, run, pool, lock_path,
        ) = _HEADER.unpack_from(data)  # fmt: skip
        if magic != MAGIC:
            raise SegmentCorrupt(f"{where}: not a segment of ours; expected magic {MAGIC!r}, found {magic!r}")
        if version != VERSION:
            raise SegmentCorrupt(
                f"{where}: expected layout version {VERSION}, found {version}; "
                f"its maker runs another release: run the same release on both sides"
            )
        if header_bytes != HEADER_BYTES:
            raise SegmentCorrupt(f"{where}: expected header bytes {HEADER_BYTES}, found {header_bytes}")
        layout = cls(
            number=number,
            slots=slots,
            slot_bytes=slot_bytes,
            data_offset=data_offset,
            size=size,
            run=_text(run),
            pool=_text(pool),
            lock_path=_text(lock_path),
            owner_pid=owner_pid,
            owner_start=owner_start,
            created_ns=created_ns,
        )
        layout._check(SegmentCorrupt, where)
        return layout

    def validate(self, object_bytes: int, where: str = "the segment") -> None:
        """Compare the header with the real size of the shared-memory object.

        Raises:
            SegmentCorrupt: the object is not exactly as large as the header says.
        """
        if object_bytes != self.size:
            what = "truncated" if object_bytes < self.size else "too large"
            raise SegmentCorrupt(
                f"{where}: {what}; its header says {self.size} bytes, the object has {object_bytes}; "
                f"it is half made, or another program changed it: remove it and start again"
            )

    def pack(self) -> bytes:
        """The header as HEADER_BYTES bytes."""
        return _HEADER.pack(
            MAGIC, VERSION, HEADER_BYTES, self.number, self.slots, self.slot_bytes, self.data_offset, self.size,
            self.owner_pid, self.owner_start, self.created_ns,
            os.fsencode(self.run), os.fsencode(self.pool), os.fsencode(self.lock_path),
        )  # fmt: skip

    @property
    def table(self) -> slice:
        """Bytes of the segment at which the slot table lies."""
        return slice(HEADER_BYTES, HEADER_BYTES + 8 * self.slots)

    def slot_offset(self, slot: int) -> int:
        """Bytes from the start of the segment to slot number `slot`, which is not checked."""
        return self.data_offset + slot * self.slot_bytes

    def _check(self, error: Callable[[str], Exception], where: str) -> None:
        table_end = HEADER_BYTES + 8 * self.slots
        data_end = self.data_offset + self.slots * self.slot_bytes
        rules = (
            (0 < self.number < 1 << 32, f"number 1..{(1 << 32) - 1}", self.number),
            (0 < self.slots <= _MAX_SLOTS, f"slots 1..{_MAX_SLOTS}", self.slots),
            (
                0 < self.slot_bytes <= _MAX_BYTES and self.slot_bytes % ALIGNMENT == 0,
                f"slot_bytes a positive multiple of {ALIGNMENT} up to {_MAX_BYTES}",
                self.slot_bytes,
            ),
            # 4096, not this host's page: the host that wrote the header decided, and larger pages are multiples.
            (
                table_end <= self.data_offset <= _MAX_BYTES and self.data_offset % 4096 == 0,
                f"data_offset page aligned and >= {table_end}",
                self.data_offset,
            ),
            (data_end <= self.size <= _MAX_BYTES, f"size {data_end}..{_MAX_BYTES}", self.size),
        )
        for holds, expected, found in rules:
            if not holds:
                raise error(f"{where}: header: expected {expected}, found {found}")


def _text(field: bytes) -> str:
    return os.fsdecode(field.rstrip(b"\0"))
