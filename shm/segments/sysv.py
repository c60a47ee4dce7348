"""SysvSegment: a segment of System V shared memory, by shmget(2).

It does not count against the size of /dev/shm. Its name is its key, "0x" and eight digits; the key
is the segment's number without the sign bit. The kernel has no fallocate for it, so `create` looks
at the limits first and then touches every page; if the creator is killed meanwhile, it leaves a
segment without a header, which only ipcs(1) and ipcrm(1) can find and remove.
"""

from __future__ import annotations

import ctypes
import re
import weakref
from contextlib import suppress
from pathlib import Path

import sysv_ipc

from shm.errors import NoRoom, SegmentCorrupt, SegmentError, SegmentExists, SegmentForbidden, SegmentNotFound
from shm.layout import HEADER_BYTES, SegmentLayout, ceil_div
from shm.segment import Segment, SegmentSpec

__all__ = ["SysvSegment", "refusal", "remove"]

_PAGE = sysv_ipc.PAGE_SIZE
_NAME = re.compile(r"0x[0-7][0-9a-f]{7}")


class SysvSegment(Segment):
    """A segment of System V shared memory."""

    kind = "sysv"

    @classmethod
    def create(cls, spec: SegmentSpec) -> SysvSegment:
        layout = spec.layout()
        # key_t is a signed 32-bit int, and key 0 is IPC_PRIVATE, which no other process could attach.
        key = (layout.number & 0x7FFFFFFF) or 1
        name = f"{key:#010x}"
        if (why := refusal(layout.size, **_limits())) is not None:
            raise NoRoom(f"{name}: {spec.slots} slots of {layout.slot_bytes} B need {layout.size} B: {why}")
        try:
            # The module fills a new segment with this character: the first touch of every page.
            shared = sysv_ipc.SharedMemory(
                key, sysv_ipc.IPC_CREX, mode=0o600, size=layout.size, init_character=b"\0"
            )
        except sysv_ipc.ExistentialError:
            raise SegmentExists(f"{name}: the key is taken; `pipeline shm gc` removes what dead runs left") from None
        except (OSError, ValueError, MemoryError, sysv_ipc.Error) as error:
            raise NoRoom(f"{name}: the kernel refuses {layout.size} B of System V memory: {error}") from error
        mapping = _map(shared)
        mapping[:HEADER_BYTES] = layout.pack()
        return cls(name, mapping, layout, created=True)

    @classmethod
    def attach(cls, name: str, *, writable: bool = True, foreign: bool = False) -> SysvSegment:
        try:
            # Once a segment is removed its key is gone, though its memory may live on in mappings. The module attaches
            # it read-only if the mode has no permission to write.
            shared = sysv_ipc.SharedMemory(_key(name), mode=0o600 if writable else 0o400)
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"{name}: no System V segment: it was never made, or is removed") from None
        except sysv_ipc.PermissionsError:
            raise SegmentForbidden(f"{name}: belongs to another user; run both sides as one user") from None
        mapping = _map(shared) if writable else _map(shared).toreadonly()
        if shared.size < HEADER_BYTES:
            raise SegmentCorrupt(f"{name}: truncated; expected a header of {HEADER_BYTES} B, found {shared.size} B")
        layout = SegmentLayout.parse(mapping[:HEADER_BYTES], name)
        layout.validate(shared.size, name)
        return cls(name, mapping, layout, created=False)

    def _remove(self) -> None:
        with suppress(SegmentNotFound):
            remove(self.address.name)


def remove(name: str) -> None:
    """Remove the segment of that name; mappings of it stay valid.

    Raises:
        SegmentNotFound: there is none.
        SegmentError: it is another user's.
    """
    try:
        shared = sysv_ipc.SharedMemory(_key(name))
        try:
            shared.remove()
        finally:
            # The module does not detach when the object goes, and a segment lives while it is attached.
            shared.detach()
    except sysv_ipc.ExistentialError:
        raise SegmentNotFound(f"{name}: no System V segment of that key") from None
    except sysv_ipc.PermissionsError:
        raise SegmentError(f"{name}: belongs to another user") from None


def refusal(wanted: int, *, shmmax: int, shmall_pages: int, used_pages: int, available: int) -> str | None:
    """Why the system has no room for `wanted` bytes of System V memory, or None if it has. Pure.

    Args:
        shmmax: largest segment in bytes, /proc/sys/kernel/shmmax.
        shmall_pages: pages of all segments together, /proc/sys/kernel/shmall.
        used_pages: pages of the segments that exist.
        available: bytes that are available without swapping, MemAvailable.
    """
    if wanted > shmmax:
        return f"kernel.shmmax allows {shmmax} B a segment; raise it with sysctl"
    pages = ceil_div(wanted, _PAGE)
    if used_pages + pages > shmall_pages:
        return f"kernel.shmall allows {shmall_pages} pages of {_PAGE} B, {used_pages} are taken; raise it with sysctl"
    if wanted > available:
        return f"only {available} B of memory are available; use fewer or smaller slots"
    return None


def _limits() -> dict[str, int]:
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "shmmax": int(Path("/proc/sys/kernel/shmmax").read_text()),
        "shmall_pages": int(Path("/proc/sys/kernel/shmall").read_text()),
        "used_pages": sum(ceil_div(int(line.split()[3]), _PAGE) for line in segments),
        "available": int(memory["MemAvailable"].split()[0]) * 1024,
    }


def _key(name: str) -> int:
    if not _NAME.fullmatch(name):
        raise SegmentNotFound(f"{name!r}: expected a key such as 0x0badcafe")
    return int(name, 16)


def _map(shared: sysv_ipc.SharedMemory) -> memoryview:
    # The module's own buffer is neither detached when it dies nor safe when it is detached by hand
    # (a view would read unmapped memory). So all views hold on to a ctypes array; when the last view
    # is gone, the array goes too, and that detaches.
    memory = (ctypes.c_ubyte * shared.size).from_address(shared.address)
    weakref.finalize(memory, shared.detach).atexit = False
    return memoryview(memory).cast("B")
