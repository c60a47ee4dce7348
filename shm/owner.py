"""Whether the owner of something is alive, as a type: Alive | Dead | Unknown.

An owner holds an exclusive flock(2) on a file of its own for as long as it lives; the kernel drops
the lock when the process is gone, however it ended. A pid proves nothing: pids repeat, and the
containers of one pod have different pid namespaces but share the folder.

    owner                          another process
    OwnerLock.acquire(path)        probe(path) -> Alive    the lock is held
       ...                                     -> Dead     the file is there and no process holds it
    release(): unlink, unlock                  -> Unknown  no such file, or it cannot be read

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
import stat
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from shm.errors import OwnerAlive

__all__ = ["Alive", "Dead", "OwnerLock", "OwnerState", "OwnerWatch", "Unknown", "probe", "start_ticks"]

#: A probe holds a shared lock for microseconds; an owner that starts at that moment must not be refused for it.
_ACQUIRE_ATTEMPTS = 20
_ACQUIRE_PAUSE_S = 0.01

#: How a lock file begins: "pid 4711 start 191556", for people to read.
_MARK = b"pid "


def start_ticks(pid: int | str = "self") -> int:
    """When a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat, see proc(5).

    Raises:
        OSError: there is no such process in this pid namespace.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    # The second field is the command in parentheses and may hold anything, blanks and ')' too.
    return int(text.rpartition(")")[2].split()[19])


class OwnerLock:
    """A held lock file. Until it is released, every segment that names its path has a living owner."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        _held.add(self)

    @classmethod
    def acquire(cls, path: str | os.PathLike[str]) -> OwnerLock:
        """Create the file (0600) and lock it until `release` or the death of this process.

        The lock is not inherited by programs that this process starts, nor by the child of a fork, which would hold it
        beyond the death of this process.

        Raises:
            OwnerAlive: a living process holds it.
            OSError: the file cannot be made.
        """
        path = os.fspath(path)
        return cls(path, _locked(path))

    def renew(self) -> bool:
        """Make the file again if it was removed, and hold the new one; True if that was necessary.

        Raises:
            OwnerAlive: another living process holds a file of that path by now.
            OSError: the file cannot be made, for instance because its folder is gone.
        """
        if self._fd < 0 or _is_at(self._fd, self.path):
            return False
        fd = _locked(self.path)
        # This order: a watcher of the old file must find the new one held as soon as the old one is free.
        old, self._fd = self._fd, fd
        os.close(old)
        return True

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


@dataclass(frozen=True, slots=True)
class Alive:
    """A living process holds the lock."""

    path: str


@dataclass(frozen=True, slots=True)
class Dead:
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


@dataclass(frozen=True, slots=True)
class Unknown:
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
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Dead means that the file may be removed, so it must be one of ours: the path may come out
        # of a damaged header, and no process holds a lock on /etc/passwd either.
        if os.pread(fd, len(_MARK), 0) != _MARK:
            return Unknown(path, "the lock file was not written by an owner")
    except BlockingIOError:
        return Alive(path)
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
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _locked(path: str) -> int:
    """A descriptor of the file at `path` (made if it is missing) that holds its lock; see `OwnerLock.acquire`."""
    for _ in range(_ACQUIRE_ATTEMPTS):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            time.sleep(_ACQUIRE_PAUSE_S)
            continue
        except OSError:
            os.close(fd)
            raise
        # Between open and flock an ending owner may have unlinked the file: a lock on a file that
        # no process can find any more protects nothing.
        if _is_at(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, _MARK + f"{os.getpid()} start {start_ticks()}\n".encode(), 0)
            return fd
        os.close(fd)
    raise OwnerAlive(f"{path}: held by a living process ({_written(path)}); stop it, or choose another name")


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
        return Path(path).read_text(errors="replace").strip()[:100] or "it has not said which"
    return "unreadable"
