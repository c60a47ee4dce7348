"""FileSegment: a segment that is a file in a folder of your choice, such as a volume that two containers share.

Its name is its path, "<folder>/trtlab.<run>.<pool>.<number>". The folder must be on a file system in memory (a tmpfs):
elsewhere, the kernel would write the slots to a disk, again and again.

Only its user may open it, until it is opened to a group (`open_to`). If its mode says so, a member of that group may
then write into it, its header included, and truncate it; and if the folder is open to the group too, rename and remove
it. So a process of the run itself attaches only what belongs to its own user: a file that was put in the place of a
segment is refused.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from shm.errors import NoRoom, SegmentCorrupt, SegmentError, SegmentExists, SegmentForbidden, SegmentNotFound
from shm.permissions import open_to, why_closed
from shm.placement import room
from shm.segment import Segment, SegmentSpec
from shm.segments.descriptor import NO_ROOM, fill, map_checked
from shm.segments.posix import PREFIX

__all__ = ["FileSegment"]


class FileSegment(Segment):
    """A segment that is a file in the folder of its spec."""

    kind = "file"

    @classmethod
    def create(cls, spec: SegmentSpec) -> FileSegment:
        if not os.path.isabs(spec.folder):
            raise SegmentError(f"expected the absolute path of a folder for the segments, found {spec.folder!r}")
        layout = spec.layout()
        name = os.path.join(spec.folder, f"{PREFIX}{spec.run}.{spec.pool}.{layout.number:08x}")
        held: list[int] = []
        try:
            try:
                _make(held, name, spec.folder)
                mapping = fill(held[0], layout)
            finally:
                for fd in held:
                    os.close(fd)
            # With a name, and so within the block, when a handler that raises has its first moment.
            made = cls(name, memoryview(mapping), layout, created=True)
            return made  # noqa: RET504
        except BaseException as error:
            if held:
                os.unlink(name)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise NoRoom(
                    f"{name}: {spec.slots} slots of {layout.slot_bytes} B and a header need {layout.size} B; "
                    f"{room(spec.folder)}"
                ) from error
            raise

    @classmethod
    def attach(cls, name: str, *, writable: bool = True, foreign: bool = False) -> FileSegment:
        path = Path(name)
        if "\0" in name or not path.is_absolute() or not path.name.startswith(PREFIX):
            raise SegmentNotFound(f"{name!r}: expected a path such as /run/trtlab/shm/{PREFIX}run.pool.0badcafe")
        # NOFOLLOW and NONBLOCK: another user of the folder may put a link or a FIFO of such a name there.
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY)
        held: list[int] = []
        try:
            _open(held, path, flags)
            found = os.fstat(held[0])
            if not stat.S_ISREG(found.st_mode):
                raise SegmentCorrupt(f"{name}: expected a regular file; another program changed it")
            if not foreign and found.st_uid != os.geteuid():
                raise SegmentCorrupt(
                    f"{name}: belongs to user {found.st_uid}, and this is a process of user {os.geteuid()}: another "
                    f"program has put it there"
                )
            mapping, layout = map_checked(held[0], name, writable)
        finally:
            for fd in held:
                os.close(fd)
        return cls(name, mapping, layout, created=False)

    def open_to(self, group: int, mode: int) -> None:
        try:
            open_to(group, self.address.name, mode)
        except OSError as error:
            raise SegmentError(f"{self.address.name}: cannot be opened to group {group}: {error.strerror}") from error

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.address.name)


def _make(held: list[int], name: str, folder: str) -> None:
    """Make an empty file; its descriptor is held."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        held.extend(map(os.open, (name,), (flags,), (0o600,)))
    except FileExistsError:
        raise SegmentExists(f"{name}: exists already; `pipeline shm gc` removes what dead runs left") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise NoRoom(f"{name}: cannot be made; {room(folder)}") from error
        raise SegmentError(f"{name}: cannot be made: {error.strerror}; is the folder mounted, and writable?") from error


def _open(held: list[int], path: Path, flags: int) -> None:
    """Open a file that is there; its descriptor is held."""
    try:
        held.extend(map(os.open, (path,), (flags,)))
    except FileNotFoundError:
        raise SegmentNotFound(_not_there(path)) from None
    except PermissionError as error:
        why = why_closed(path.parent) or why_closed(path) or f"this process may not open it: {error.strerror}"
        raise SegmentForbidden(f"{path}: {why}") from None
    except OSError as error:
        if error.filename is not None and os.path.lexists(path):
            raise SegmentCorrupt(f"{path}: cannot be opened: {error.strerror}") from error
        raise SegmentNotFound(f"{path}: cannot be opened: {error.strerror}") from error


def _not_there(path: Path) -> str:
    if path.parent.is_dir():
        return f"{path}: not there: it was never made, or is unlinked"
    return f"{path}: there is no folder {path.parent}; mount the volume of the segments there, as the pipeline has it"
