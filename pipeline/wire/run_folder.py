"""Run folder: the one of this process's run (see `pipeline.wire.run_dir`), from its making to its removal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from pipeline.errors import StartError
from pipeline.wire.address import CLIENTS
from pipeline.wire.folder_lock import held, is_held
from pipeline.wire.home import OWN_HOME, make_home, remove_folder, runs_home
from pipeline.wire.run_dir import ENDED, FRESH, LOCK, OWNED, READY, ROOT, SEGMENTS, STOPPING, SUCCESSOR, pipeline_of
from pipeline.wire.shards import make_door
from shm.errors import NotInGroup, OwnerAlive
from shm.owner import Dead, OwnerLock, probe
from shm.permissions import open_to

__all__ = ["RunFolder"]

_ATTEMPTS = 20

#: Of a run with a group: its folder can be entered, and what clients make is made in `clients`.
_ENTERED, _SHARED = 0o710, 0o3730

#: Above every process id that Linux gives (PID_MAX_LIMIT), for runs whose id is taken.
_MOST_PIDS = 1 << 22


def _make_clients(run_dir: Path, group: int | None) -> None:
    clients = run_dir / CLIENTS
    clients.mkdir(mode=0o700)
    if group is not None:
        open_to(group, clients, _SHARED)


class RunFolder:
    """The folder of a run of this process: held for as long as it lives, made anew if it is removed under it.

    Raises:
        StartError: it cannot be made.
    """

    def __init__(
        self,
        pipeline: str,
        root: Path | None = None,
        group: int | None = None,
        segment_dir: str = "",
        *,
        is_front: bool = False,
    ) -> None:
        """
        Args:
            pipeline: the name of what runs there.
            root: the folder of the supervisor that has started this one, by a reload.
            group: whose members may be clients; None: this user alone.
            segment_dir: the folder of its segments, if they are files: others find what it leaves by it.
            is_front: the run has shards, and no client may have its place here.
        """
        self._is_front = is_front
        self._group = group
        self._segment_dir = segment_dir
        self.ready = False
        self.stopping = False
        self.ended = False
        #: The links in it, by name: the names of folders beside it. Relative, since others may see them elsewhere.
        self._links: dict[str, str] = {} if root is None else {ROOT: root.name}
        home = runs_home()
        try:
            make_home(home, group)
            self.path = home / f"{pipeline}-{os.getpid()}"
            self._fd, self._lock = self._make(self._take_name)
        except NotInGroup as error:
            raise StartError(str(error)) from error
        except (OSError, OwnerAlive) as error:
            raise StartError(f"cannot make a folder for the run in {home}: {error}; {OWN_HOME}") from error

    def _make(self, take_name: Callable[[], None]) -> tuple[int, OwnerLock]:
        """Make the folder; its descriptor and lock.

        Args:
            take_name: sees to it that there is no folder of its name.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._make_once(take_name)
            except OSError as error:
                # Another process has removed it before it was held, as what a dead one has left; or it has the name.
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise
        return self._make_once(take_name)

    def _make_once(self, take_name: Callable[[], None]) -> tuple[int, OwnerLock]:
        # It has its name last: none is ever found without a complete lock. Otherwise a process that is killed here
        # would leave a folder that is never proven dead, and the group could find one that it cannot enter.
        fresh = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}{FRESH}")
        fresh.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(remove_folder, fresh, ignore_errors=True)
            fd = held(fresh)
            undo.callback(os.close, fd)
            lock = OwnerLock.acquire(fresh / LOCK, self._group)
            undo.callback(lock.release)
            (fresh / OWNED).touch(mode=0o600)
            _make_clients(fresh, self._group)
            if self._is_front and not self.ended:
                # A client that finds the folder without it would take a place in it, and wait there for ever.
                make_door(fresh, self._group)
            self._note_segments(fresh)
            for name, folder in self._links.items():
                (fresh / name).symlink_to(Path("..") / folder)
            if self._group is not None:
                open_to(self._group, fresh, _ENTERED)
            take_name()
            fresh.rename(self.path)
            lock.moved_to(self.path / LOCK)
            undo.pop_all()
        return fd, lock

    def _take_name(self) -> None:
        while self.path.exists():
            # The number is that of this process, so the one that made it is dead, or lives in another pid namespace,
            # perhaps as another user: only what is proven dead is removed.
            is_ours = self.path.stat().st_uid == os.getuid()
            if is_ours and isinstance(probe(self.path / LOCK), Dead) and not is_held(self.path):
                remove_folder(self.path)
            else:
                number = _MOST_PIDS + int.from_bytes(os.urandom(8), "little") % _MOST_PIDS
                self.path = self.path.with_name(f"{pipeline_of(self.path)}-{number}")

    def mark_ready(self, ready: bool) -> None:
        """Have clients that connect by name sent here, or not any more. A folder that is gone is `renew`'s business."""
        self.ready = ready
        self._mark(READY, there=ready)

    def mark_stopping(self, stopping: bool) -> None:
        """Tell others that the run is on its way to its end, or that it is not. Nothing is done if that is told."""
        if stopping is not self.stopping:
            self.stopping = stopping
            self._mark(STOPPING, there=stopping)

    def _mark(self, name: str, *, there: bool) -> None:
        with suppress(OSError):
            if there:
                (self.path / name).touch(mode=0o600)
            else:
                (self.path / name).unlink(missing_ok=True)

    def _note_segments(self, folder: Path) -> bool:
        """Say where the segments are, if that is not said yet; whether it was not."""
        if not self._segment_dir or (note := folder / SEGMENTS).exists():
            return False
        note.touch(mode=0o600)
        note.write_text(self._segment_dir)
        return True

    def replace(self, successor: str) -> None:
        """The run has been replaced: processes that look for it are sent to the folder of this name beside this one."""
        with suppress(OSError):
            self.link(SUCCESSOR, successor)

    def mark_ended(self) -> None:
        """The run has ended: this folder is no run's any more, but the root's of those that serve."""
        self.ended = True
        self.mark_ready(False)
        self.mark_stopping(False)
        self._mark(ENDED, there=True)

    def link(self, name: str, folder: str) -> None:
        """Have a link of this name lead to the folder beside this one."""
        self._links[name] = folder
        fresh = self.path / f"{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("..") / folder)
        # At once: others follow it at any time.
        fresh.rename(self.path / name)

    def renew(self) -> list[str]:
        """Make anew what of it was removed, apart from sockets and locks of others; the names of what was.

        Raises:
            OSError: it cannot be made anew.
            StartError: its home belongs to another user by now.
            NotInGroup: it cannot be given to its group any more.
            OwnerAlive: another living run has made a folder of that name.
        """
        gone = []
        if not self._is_there():
            self._make_again()
            gone.append("the folder")
        clients = self.path / CLIENTS
        if not clients.is_dir():
            _make_clients(self.path, self._group)
            gone.append(CLIENTS)
        if self._lock.renew():
            gone.append(LOCK)
        if not (self.path / OWNED).exists():
            (self.path / OWNED).touch(mode=0o600)  # a part of the lock, which people need not hear of
        if self._note_segments(self.path):
            gone.append(SEGMENTS)
        if self.ready and not (self.path / READY).exists():
            self.mark_ready(True)
            gone.append(READY)
        if self.stopping and not (self.path / STOPPING).exists():
            self._mark(STOPPING, there=True)
            gone.append(STOPPING)
        if self.ended and not (self.path / ENDED).exists():
            self.mark_ended()
            gone.append(ENDED)
        for name, folder in self._links.items():
            if not (self.path / name).is_symlink():
                self.link(name, folder)
                gone.append(name)
        return gone

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _make_again(self) -> None:
        make_home(self.path.parent, self._group)
        fd, lock = self._make(self._clear_name)
        # This order: a watcher of the old lock must find the new one held as soon as the old one is free.
        (old_fd, old_lock), (self._fd, self._lock) = (self._fd, self._lock), (fd, lock)
        os.close(old_fd)
        old_lock.release()

    def _clear_name(self) -> None:
        if self.path.exists():
            # Another process has made one: it goes, unless it is a living run's.
            if self.path.stat().st_uid != os.getuid() or is_held(self.path):
                raise OwnerAlive(f"{self.path}: another run has made a folder of this name")
            remove_folder(self.path)

    def remove(self) -> None:
        """Remove it with all that is in it; never raises."""
        # The owner's lock goes last: until then everything here has a living owner. A client whose scheduler has ended
        # looks whether the run was stopped: that is there as long as the lock is.
        with suppress(OSError):
            if self._is_there():
                for entry in self.path.iterdir():
                    if entry.name == CLIENTS:
                        remove_folder(entry, ignore_errors=True)
                    elif entry.name not in (LOCK, STOPPING):
                        with suppress(OSError):
                            entry.unlink()
        self._lock.release()
        with suppress(OSError):
            if self._is_there():
                remove_folder(self.path, ignore_errors=True)
        os.close(self._fd)
