"""The place of a segment's pages: room for them, first touch, huge pages, NUMA residency.

A process calls this when it creates or attaches a segment, never on the hot path. Memory belongs to the
NUMA node of the CPU that first touches it (unless a policy says otherwise, see set_mempolicy(2)), so the
process that is pinned beside the reader should call `prefault`.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from shm.errors import NoRoom
from shm.segment import Segment

__all__ = [
    "Residency",
    "ShmRoom",
    "huge_bytes",
    "map_pages",
    "parse_numa_maps",
    "parse_smaps",
    "prefault",
    "residency",
    "room",
    "touch",
]

_MADV_POPULATE_WRITE = 23  # Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class ShmRoom(msgspec.Struct, frozen=True):
    """How full the tmpfs of the POSIX segments is."""

    path: str
    total: int
    """Bytes that it may hold."""
    free: int
    """Bytes that this user can still take."""

    def __str__(self) -> str:
        return f"{self.path} has {self.free} B free of {self.total} B; enlarge it, or use fewer or smaller slots"


def room(path: str = "/dev/shm") -> ShmRoom:
    """What the file system at `path` has free now."""
    found = os.statvfs(path)
    return ShmRoom(path, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def prefault(segment: Segment, cpus: Iterable[int] = ()) -> None:
    """Map every page of the segment into this process now, not at first use; contents stay as they are.

    A first touch costs 483 us for a slot of 602,112 B, against 17 us for filling it once mapped.

    Args:
        cpus: the pages go to the NUMA node of these CPUs, as far as it has room; empty: to that of this thread's CPU.

    Raises:
        NoRoom: the kernel cannot provide the pages.
    """
    with _running_on(cpus):
        _populate(segment)


def _populate(segment: Segment) -> None:
    code = _madvise(segment, _MADV_POPULATE_WRITE)
    if code == errno.EINVAL:  # a kernel before 5.14
        touch(segment)
    elif code:
        raise NoRoom(f"{segment!r}: its pages cannot be mapped: {os.strerror(code)}; free memory or use fewer slots")


@contextmanager
def _running_on(cpus: Iterable[int]) -> Iterator[None]:
    """Run this thread on these CPUs, if the kernel allows it."""
    wanted, before = set(cpus), os.sched_getaffinity(0)
    if not wanted:
        yield
        return
    with suppress(OSError):  # some sandboxes refuse it: then the pages stay where they are
        os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)


def map_pages(segment: Segment) -> bool:
    """Map every page of an attached segment into this process now; no byte is written.

    For processes that attach while others already use the slots. The pages exist already; this saves
    the fault at this process's own first touch of each page: a slot of 24.9 MB has 6,075 of them.

    Returns:
        Whether the kernel did it; if it cannot (before Linux 5.14), pages are mapped one by one when they are used.
    """
    return _madvise(segment, _MADV_POPULATE_WRITE) == 0


def touch(segment: Segment) -> None:
    """First touch by hand: write a zero to each page of the slots that are free now.

    Another process may be writing into a slot that is out, so those slots are left alone.
    """
    layout, buffer = segment.layout, segment.buffer
    for slot, generation in enumerate(segment.generations):
        if not generation & 1:
            start = layout.slot_offset(slot)
            # Stride by stride from the slot's own start: a page may be shared with the slot before.
            for offset in range(start, start + layout.slot_bytes, mmap.PAGESIZE):
                buffer[offset] = 0
            buffer[start + layout.slot_bytes - 1] = 0


class Residency(dict[int, int]):
    """Pages of the segment that this process has mapped, by NUMA node."""

    def __init__(self, pages: dict[int, int], reason: str | None = None) -> None:
        super().__init__(pages)
        self.reason = reason
        """Why it is empty, if the kernel does not tell."""


def residency(segment: Segment) -> Residency:
    """The NUMA nodes of the mapped pages, from /proc/self/numa_maps (see numa(7))."""
    try:
        lines = Path("/proc/self/numa_maps").read_text().splitlines()
    except OSError as error:
        return Residency({}, f"/proc/self/numa_maps: {error.strerror}; the kernel was built without NUMA")
    pages = parse_numa_maps(lines, _address(segment), len(segment.buffer))
    return Residency(pages, None if pages else "no page of it is mapped in this process yet")


def huge_bytes(segment: Segment) -> int:
    """Bytes of the segment that this process has mapped as huge pages, from /proc/self/smaps (see proc(5))."""
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return 0
    return parse_smaps(lines, _address(segment), len(segment.buffer))


def parse_numa_maps(lines: Iterable[str], address: int, nbytes: int) -> dict[int, int]:
    """Sum the `N<node>=<pages>` of the mappings that begin within `nbytes` from `address`. Pure."""
    pages: dict[int, int] = {}
    for line in lines:
        start, *fields = line.split()
        if address <= int(start, 16) < address + nbytes:
            for field in fields:
                node, _, count = field.partition("=")
                if node[:1] == "N" and node[1:].isdigit():
                    pages[int(node[1:])] = pages.get(int(node[1:]), 0) + int(count)
    return pages


def parse_smaps(lines: Iterable[str], address: int, nbytes: int) -> int:
    """Bytes in huge pages, of the mappings that begin within `nbytes` from `address`. Pure."""
    found, inside = 0, False
    for line in lines:
        if start := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line):
            inside = address <= int(start[1], 16) < address + nbytes
        elif inside and line.startswith(("ShmemPmdMapped:", "AnonHugePages:")):
            found += int(line.split()[1]) * 1024
    return found


def _address(segment: Segment) -> int:
    if not segment.buffer.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(segment.buffer))
    # ctypes takes no memory that it may not write.
    import numpy as np

    return int(np.frombuffer(segment.buffer, np.uint8).ctypes.data)


def _madvise(segment: Segment, advice: int) -> int:
    """0, or the errno."""
    if _libc.madvise(_address(segment), len(segment.buffer), advice) == 0:
        return 0
    return ctypes.get_errno()
