"""What dead runs left in shared memory: `scan` lists our segments, `collect` removes those of the dead.

Used by `pipeline shm ls` and `pipeline shm gc`, and at each start. Nothing here needs to know the runs:
a segment's own header names its owner's lock file, and that file says whether the owner lives (see
`shm.owner`). Segments whose owner is unknown are shown and left alone. Only the folders of segments that are files
must be named.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import posix_ipc
import sysv_ipc
from msgspec.structs import replace

from shm.errors import OwnerAlive, SegmentCorrupt, SegmentError
from shm.layout import HEADER_BYTES, MAGIC, SegmentLayout
from shm.owner import Dead, OwnerState, Unknown, probe
from shm.segment import SegmentAddress
from shm.segments import sysv
from shm.segments.posix import PREFIX

__all__ = ["Leftover", "collect", "scan"]

_SHM = Path("/dev/shm")


class Leftover(msgspec.Struct, frozen=True):
    """A segment of ours that exists now; its run may be alive or dead."""

    address: SegmentAddress
    size: int
    """Bytes of the shared-memory object."""
    run: str
    pool: str
    owner_pid: int
    owner_start: int
    """When the owner started, in clock ticks since boot; with the pid it names one process of its pid namespace."""
    state: OwnerState
    age: float
    """Seconds since it was created."""
    slots: int
    slots_in_use: int
    """Slots that are out: those of odd generation."""

    @property
    def name(self) -> str:
        """The name within its kind: a file of /dev/shm with a slash before it, a System V key, or a path."""
        return self.address.name


def scan(folders: Iterable[str | os.PathLike[str]] = ()) -> list[Leftover]:
    """Every segment of ours on this host that this user made, POSIX ones first, by name.

    A file named like ours that is no segment (damaged, another version) is listed with state
    Unknown and zeros. Segments that vanish meanwhile are left out.

    Args:
        folders: where else than in /dev/shm segments may be files; those that are not there are passed over.
    """
    return [*_scan_folder(_SHM), *_scan_sysv(), *_scan_further(folders)]


def collect(folders: Iterable[str | os.PathLike[str]] = ()) -> list[Leftover]:
    """Remove the segments whose owner is proven dead, and their lock files.

    Args:
        folders: as for `scan`.

    Returns:
        The segments removed by this call, without those that another process collects at the same time.
    """
    removed: list[Leftover] = []
    dead: dict[str, tuple[Dead, list[Leftover]]] = {}
    for leftover in scan(folders):
        if isinstance(leftover.state, Dead):
            dead.setdefault(leftover.state.path, (leftover.state, []))[1].append(leftover)
    for owner, theirs in dead.values():
        # The lock is held meanwhile, and its file goes last: if this process dies here, the rest can
        # still be proven to be dead.
        with suppress(OwnerAlive, OSError), owner.claim():
            removed += [leftover for leftover in theirs if _remove(leftover.address)]
    return removed


def _remove(address: SegmentAddress) -> bool:
    """Remove one segment, and return whether it was still there."""
    try:
        if address.kind == "posix":
            posix_ipc.unlink_shared_memory(address.name)
        elif address.kind == "file":
            os.unlink(address.name)
        else:
            sysv.remove(address.name)
    except (posix_ipc.Error, SegmentError, OSError):
        return False
    return True


def _scan_further(folders: Iterable[str | os.PathLike[str]]) -> Iterator[Leftover]:
    """The segments of each of these folders once, apart from /dev/shm."""
    known = {_place_of(_SHM), None}
    for folder in folders:
        if (place := _place_of(folder)) not in known:
            known.add(place)
            yield from _scan_folder(Path(folder))


def _place_of(folder: str | os.PathLike[str]) -> tuple[int, int] | None:
    """What tells a folder apart from all others, whatever path names it; None if there is none."""
    try:
        found = os.stat(folder)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _scan_folder(folder: Path) -> list[Leftover]:
    trusted: list[Leftover] = []
    shared: list[Leftover] = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        with suppress(OSError):
            # NOFOLLOW and NONBLOCK: any user may put a link or a FIFO of such a name there.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                found = os.fstat(fd)
                # Another user's header must not decide which files we remove, least of all if we are root.
                if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                    kind, name = ("posix", f"/{path.name}") if folder == _SHM else ("file", str(path))
                    leftover = _read(SegmentAddress(kind, name), found.st_size, partial(os.pread, fd))
                    (shared if found.st_mode & 0o022 else trusted).append(leftover)
            finally:
                os.close(fd)
    # A header that others can write does not decide either: the run's other segments say which lock is its owner's.
    # There always are some: a segment is opened to its group after all of the run were made.
    owners = {leftover.run: leftover for leftover in trusted if leftover.run}
    found_all = [*trusted, *(_owned(leftover, owners) for leftover in shared)]
    return sorted(found_all, key=lambda leftover: leftover.address)


def _owned(leftover: Leftover, owners: Mapping[str, Leftover]) -> Leftover:
    """A segment whose header others can write, with the owner of the run that its file is named after. Pure."""
    name = os.path.basename(leftover.name)
    for run, other in owners.items():
        if name.startswith(f"{PREFIX}{run}."):
            return replace(
                leftover, run=run, owner_pid=other.owner_pid, owner_start=other.owner_start, state=other.state
            )
    return replace(
        leftover, state=Unknown("", "others can write its header, and no other segment of its run says who owns it")
    )


def _scan_sysv() -> Iterator[Leftover]:
    with suppress(OSError):  # a kernel without System V IPC
        for key, size in _sysv_keys(Path("/proc/sysvipc/shm").read_text().splitlines()):
            with suppress(sysv_ipc.Error, OSError):
                shared = sysv_ipc.SharedMemory(key)
                try:
                    if shared.read(len(MAGIC)) == MAGIC:
                        yield _read(SegmentAddress("sysv", f"{key:#010x}"), size, shared.read)
                finally:
                    shared.detach()


def _sysv_keys(lines: Iterable[str]) -> list[tuple[int, int]]:
    """(key, bytes) of the segments in /proc/sysvipc/shm that could be ours. Pure.

    Ours have a key, are private to this user, and hold a header; others are not even attached.
    """
    found = []
    for line in list(lines)[1:]:
        fields = line.split()
        key, permissions, size, uid = int(fields[0]), int(fields[2], 8), int(fields[3]), int(fields[7])
        if key != 0 and permissions & 0o777 == 0o600 and size >= HEADER_BYTES and uid == os.geteuid():
            found.append((key, size))
    return sorted(found)


def _read(address: SegmentAddress, size: int, read: Callable[[int, int], bytes]) -> Leftover:
    try:
        layout = SegmentLayout.parse(read(HEADER_BYTES, 0), address.name)
    except SegmentCorrupt as error:
        return Leftover(address, size, "", "", 0, 0, Unknown("", str(error)), 0.0, 0, 0)
    # If the creator died while making it, the segment is shorter than its header says: count what is there.
    table_bytes = min(layout.table.stop, size) - HEADER_BYTES
    table = read(table_bytes, HEADER_BYTES) if table_bytes else b""
    return Leftover(
        address=address,
        size=size,
        run=layout.run,
        pool=layout.pool,
        owner_pid=layout.owner_pid,
        owner_start=layout.owner_start,
        state=probe(layout.lock_path) if layout.lock_path else Unknown("", "it was made without a lock file"),
        age=max(0.0, (time.time_ns() - layout.created_ns) / 1e9),
        slots=layout.slots,
        slots_in_use=sum(byte & 1 for byte in table[::8]),
    )
