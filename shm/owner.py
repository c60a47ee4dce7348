"""Whether the owner of something is alive, as a type: Alive | Dead | Unknown.

An owner holds an exclusive lock on a file of its own for as long as it lives; the kernel drops
the lock when the process is gone, however it ended. A pid proves nothing: pids repeat, and the
containers of one pod have different pid namespaces but share the folder.

    owner                          another process
    OwnerLock.acquire(path)        probe(path) -> Alive    the lock is held
       ...                                     -> Dead     the file is there and no process holds it
    release(): unlink, unlock                  -> Unknown  no such file, or it cannot be read

Two locks are taken, and both belong to the open file, so they go with the process. Any process that may read a file can
take its flock(2), also to make a dead owner look alive. So where others may read it, that proves nothing; the *strong*
lock (F_OFD_SETLK) can be had only by those that may write the file. The file says whether its owner has it: earlier
versions, and kernels that lack it, go by the flock alone.

Only `Dead` has `claim`, which takes the dead owner's lock; the process that holds that lock may remove what
the owner left. A path belongs to one life: choose a new one for each run.

Cleaners of old files remove lock files as well. The owner makes its own file again (`OwnerLock.renew`). A
process that must never be wrong about one owner keeps that owner's file open (`OwnerWatch`): the lock is on the
file, not on its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from shm.errors import OwnerAlive
from shm.permissions import open_to

__all__ = ["Alive", "Dead", "OwnerLock", "OwnerState", "OwnerWatch", "Unknown", "probe", "start_ticks", "written_in"]

#: A probe holds a shared lock for microseconds; an owner that starts at that moment must not be refused for it.
_ACQUIRE_ATTEMPTS = 20
_ACQUIRE_PAUSE_S = 0.01

#: How a lock file begins: "pid 4711 start 191556", for people to read.
_MARK = b"pid "
_LONGEST_MARK = 100
_WRITTEN = re.compile(rb"pid (\d+) start (\d+)\b")

#: How it ends, if its owner has the strong lock.
_STRONG = b" strong"

#: fcntl(2): locks of an open file description, since Linux 3.15. Some sandboxes have none.
_RECORD = "hhqqi4x"
_OFD_GETLK = getattr(fcntl, "F_OFD_GETLK", None) if struct.calcsize("P") == 8 else None
_OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", None) if struct.calcsize("P") == 8 else None


def start_ticks(pid: int | str = "self") -> int:
    """When a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat, see proc(5).

    Raises:
        OSError: there is no such process in this pid namespace.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    # The second field is the command in parentheses and may hold anything, blanks and ')' too.
    return int(text.rpartition(")")[2].split()[19])


def written_in(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """What a lock's file says of its owner: the pid in the owner's namespace, and `start_ticks`. None: it says nothing.

    It proves nothing by itself: see above.
    """
    try:
        found = _WRITTEN.match(Path(path).read_bytes())
    except OSError:
        return None
    return None if found is None else (int(found[1]), int(found[2]))


class OwnerLock:
    """A held lock file. Until it is released, every segment that names its path has a living owner."""

    def __init__(self, path: str, fd: int, group: int | None = None) -> None:
        self.path = path
        self._fd = fd
        self._group = group
        _held.add(self)

    @classmethod
    def acquire(cls, path: str | os.PathLike[str], group: int | None = None) -> OwnerLock:
        """Create the file (0600) and lock it until `release` or the death of this process.

        The lock is not inherited by programs that this process starts, nor by the child of a fork, which would hold it
        beyond the death of this process.

        Args:
            group: a group whose members may see whether the owner lives: the file is 0640 and that group's.

        Raises:
            OwnerAlive: a living process holds it.
            NotInGroup: this process is no member of the group.
            OSError: the file cannot be made.
        """
        path = os.fspath(path)
        return cls(path, _locked(path, group), group)

    def renew(self) -> bool:
        """Make the file again if it was removed, and hold the new one; True if that was necessary.

        Raises:
            OwnerAlive: another living process holds a file of that path by now.
            OSError: the file cannot be made, for instance because its folder is gone.
        """
        if self._fd < 0 or _is_at(self._fd, self.path):
            return False
        fd = _locked(self.path, self._group)
        # This order: a watcher of the old file must find the new one held as soon as the old one is free.
        old, self._fd = self._fd, fd
        os.close(old)
        return True

    def moved_to(self, path: str | os.PathLike[str]) -> None:
        """The file has another path by now, since a folder of it was renamed; the lock is the same."""
        self.path = os.fspath(path)

    def release(self) -> None:
        """Remove the file, then drop the lock. A second call does nothing."""
        if self._fd < 0:
            return
        # This order: once unlocked, the file could already belong to another process.
        if _is_at(self._fd, self.path):
            with suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1

    def _forget(self) -> None:
        """This process is the child of a fork, so it owns nothing: forget the lock."""
        if self._fd >= 0:
            # Closing this copy of the descriptor leaves the parent's lock alone.
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> OwnerLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


_held: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in tuple(_held):
        lock._forget()


os.register_at_fork(after_in_child=_forget_all)


class Alive(msgspec.Struct, frozen=True):
    """A living process holds the lock."""

    path: str


class Dead(msgspec.Struct, frozen=True):
    """The lock file is there and no process holds it: its owner is gone."""

    path: str

    def claim(self) -> OwnerLock:
        """Take the dead owner's lock, so that only one process removes what the owner left.

        Releasing it removes the lock file as well.

        Raises:
            OwnerAlive: another process has taken the lock since.
            OSError: the file cannot be opened for writing.
        """
        return OwnerLock.acquire(self.path)


class Unknown(msgspec.Struct, frozen=True):
    """It is unknown whether the owner lives, so nothing may be removed."""

    path: str
    reason: str


OwnerState = Alive | Dead | Unknown


def probe(path: str | os.PathLike[str]) -> OwnerState:
    """Whether the owner that holds the lock file at `path` is alive. Never blocks, never raises OSError."""
    path = os.fspath(path)
    try:
        fd = _opened(path)
    except (OSError, ValueError) as error:
        return Unknown(path, f"the lock file cannot be opened: {getattr(error, 'strerror', None) or error}")
    try:
        if _is_locked(fd):
            return Alive(path)
        # Dead means that the file may be removed, so it must be one of ours: the path may come out
        # of a damaged header, and no process holds a lock on /etc/passwd either.
        if os.pread(fd, len(_MARK), 0) != _MARK:
            return Unknown(path, "the lock file was not written by an owner")
    except OSError as error:
        return Unknown(path, f"the lock cannot be tried: {error.strerror}")
    finally:
        os.close(fd)
    return Dead(path)


class OwnerWatch:
    """One owner, watched by its lock file, which is held open: the answer is certain even if the file was removed.

    Raises:
        OSError: there is no such file, or it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd = _opened(self.path)
        #: Which process the owner is, as it has written it there; empty: it has not yet.
        self._owner = b""
        self._read_owner()

    @property
    def alive(self) -> bool:
        """Whether the owner lives and has not released its lock; never True again once it was False."""
        if self._fd < 0:
            return False
        if self._is_held():
            return True
        # The owner may have renewed its lock. It does so in this order: hold the new file, let go of the old one.
        self.close()
        with suppress(OSError):
            self._fd = _opened(self.path)
            if self._is_held():
                return True
        self.close()
        return False

    def _is_held(self) -> bool:
        """Whether the owner holds it: not the next one, which may have taken the same file since."""
        return _is_locked(self._fd) and self._read_owner()

    def _read_owner(self) -> bool:
        """Whether the file still says that it is the owner's."""
        written = os.pread(self._fd, _LONGEST_MARK, 0)
        if not self._owner and written.endswith(b"\n"):
            self._owner = written
        return written == self._owner

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _locked(path: str, group: int | None = None) -> int:
    """A descriptor of the file at `path` (made if it is missing) that holds its lock; see `OwnerLock.acquire`."""
    for _ in range(_ACQUIRE_ATTEMPTS):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            strong = _take(fd)
            # Between open and lock an ending owner may have unlinked the file: a lock on a file that
            # no process can find any more protects nothing.
            if _is_at(fd, path):
                if group is not None:
                    open_to(group, fd, 0o640)
                os.ftruncate(fd, 0)
                mark = _MARK + f"{os.getpid()} start {start_ticks()}".encode()
                os.pwrite(fd, mark + (_STRONG if strong else b"") + b"\n", 0)
                return fd
        except BlockingIOError:
            if not _is_locked(fd) and _is_at(fd, path):
                # No owner has it: a process that may read the file locks it against us. It gets another file.
                os.unlink(path)
            else:
                time.sleep(_ACQUIRE_PAUSE_S)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise OwnerAlive(f"{path}: held by a living process ({_written(path)}); stop it, or choose another name")


def _take(fd: int) -> bool:
    """Lock a file for its owner; whether that is with the strong lock, too.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: its file system knows no locks.
    """
    strong = False
    if _OFD_SETLK is not None:
        try:
            fcntl.fcntl(fd, _OFD_SETLK, _record(fcntl.F_WRLCK))
            strong = True
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # An owner of an earlier version has this lock alone; otherwise it proves nothing.
        if not strong or not _is_strong(fd):
            raise
    return strong


def _is_locked(fd: int) -> bool:
    """Whether an owner holds the lock of a file: another open file than `fd`.

    Raises:
        OSError: its file system knows no locks.
    """
    if _OFD_GETLK is not None:
        with suppress(OSError):
            # Asked as a reader: locks of other readers are no owner's.
            found = fcntl.fcntl(fd, _OFD_GETLK, _record(fcntl.F_RDLCK))
            if struct.unpack(_RECORD, found)[0] == fcntl.F_WRLCK:
                return True
    if _is_strong(fd):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _is_strong(fd: int) -> bool:
    """Whether the last owner says that it had the strong lock."""
    return os.pread(fd, _LONGEST_MARK, 0).rstrip(b"\n").endswith(_STRONG)


def _record(kind: int) -> bytes:
    """A struct flock (see fcntl(2)) over the whole file."""
    return struct.pack(_RECORD, kind, os.SEEK_SET, 0, 0, 0)


def _opened(path: str) -> int:
    """The regular file at `path`, for reading.

    Raises:
        OSError: there is none.
    """
    # The path may come out of a foreign header and name anything: NONBLOCK keeps a FIFO from blocking us.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "the lock file is not a regular file", path)
    return fd


def _is_at(fd: int, path: str) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(fd), found)


def _written(path: str) -> str:
    with suppress(OSError):
        text = Path(path).read_text(errors="replace").strip()[:100]
        return text.removesuffix(_STRONG.decode()) or "it has not said which"
    return "unreadable"
