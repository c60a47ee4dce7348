"""Run folders: where a run keeps its sockets and locks, and how others find it.

    <home>/<pipeline>-<pid>/        0700; held (flock) by the supervisor for as long as it lives
        owner.lock                  held by the supervisor, too; segments name it
        ready                       there while the run is ready
        supervisor.sock scheduler.sock w<number>.sock
        scheduler.lock              held by the scheduler; clients watch it
        clients/<id>.lock           held by each client for as long as it lives
        clients/<id>.sock

The home is $TRTLAB_RUN_DIR, else $XDG_RUNTIME_DIR/trtlab, else <tmp>/trtlab-<uid>. Containers of one
pod share it as a volume, beside /dev/shm.

The lock on the folder itself keeps systemd-tmpfiles from it, which passes over a folder that is locked, with all
that is in it (tmpfiles.d(5), "Age"). Others that clean do not ask: what they remove, each process makes anew.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import StartError, Unavailable
from pipeline.wire.address import CLIENTS, SOCKET_SUFFIX, SUPERVISOR, Address
from shm import leftovers
from shm.errors import OwnerAlive
from shm.owner import Alive, Dead, OwnerLock, probe

__all__ = [
    "LOCK",
    "READY",
    "Run",
    "RunFolder",
    "find_run",
    "lock_path",
    "make_run_dir",
    "pipeline_of",
    "preferred",
    "remove_dead_runs",
    "runs",
    "runs_home",
]

LOCK = "owner.lock"

READY = "ready"

_OWN_HOME = "set TRTLAB_RUN_DIR to a folder of yours"

#: Another process may hold a folder for a moment, to ask whether we do.
_HOLD_ATTEMPTS = 20
_HOLD_PAUSE_S = 0.01


def runs_home() -> Path:
    """The folder that holds the run folders, as an absolute path: segments name a lock in it for readers anywhere."""
    if configured := os.environ.get("TRTLAB_RUN_DIR"):
        return Path(configured).absolute()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime).absolute() / "trtlab"
    return Path(tempfile.gettempdir()).absolute() / f"trtlab-{os.getuid()}"


def lock_path(run_dir: Path, address: Address) -> Path:
    """The file that a process of a run holds a lock on for as long as it lives; others see its death by it."""
    return run_dir / (LOCK if address == SUPERVISOR else f"{address.file}.lock")


def make_run_dir(pipeline: str) -> Path:
    """A fresh folder for a run of this process, for this user alone.

    Raises:
        StartError: it cannot be made, the home belongs to another user, or a living run has the same name.
    """
    home = runs_home()
    try:
        _make_home(home)
        run_dir = home / f"{pipeline}-{os.getpid()}"
        if run_dir.exists():
            # Our own pid in its name, so the process that made it is dead, or lives in another pid namespace.
            if isinstance(probe(run_dir / LOCK), Alive) or _is_held(run_dir):
                raise StartError(
                    f"the run in {run_dir} is alive; set TRTLAB_RUN_DIR to a folder of this container's own"
                )
            shutil.rmtree(run_dir)
        run_dir.mkdir(mode=0o700)
        (run_dir / CLIENTS).mkdir(mode=0o700)
    except OSError as error:
        raise StartError(
            f"cannot make a folder for the run in {home}: {error}; {_OWN_HOME}"
        ) from error
    return run_dir


def _make_home(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise StartError(f"{home} belongs to another user; {_OWN_HOME}")


class RunFolder:
    """The folder of a run of this process: held for as long as it lives, made anew if it is removed under it.

    Raises:
        StartError: it cannot be made.
    """

    def __init__(self, pipeline: str) -> None:
        self.path = make_run_dir(pipeline)
        #: Whether it is marked as ready.
        self.ready = False
        try:
            self._fd = _held(self.path)
            self._lock = OwnerLock.acquire(self.path / LOCK)
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise StartError(f"cannot lock {self.path / LOCK}: {error}") from error

    def mark_ready(self, ready: bool) -> None:
        """Have clients that connect by name sent here, or not any more. A folder that is gone is `renew`'s business."""
        self.ready = ready
        with suppress(OSError):
            if ready:
                (self.path / READY).touch(mode=0o600)
            else:
                (self.path / READY).unlink(missing_ok=True)

    def renew(self) -> list[str]:
        """Make anew what of it was removed, apart from sockets and locks of others; the names of what was.

        Raises:
            OSError: it cannot be made anew.
            StartError: its home belongs to another user by now.
            OwnerAlive: another living run has made a folder of that name.
        """
        gone = []
        if not self._is_there():
            self._make_again()
            gone.append("the folder")
        clients = self.path / CLIENTS
        if not clients.is_dir():
            clients.mkdir(mode=0o700)
            gone.append(CLIENTS)
        if self._lock.renew():
            gone.append(LOCK)
        if self.ready and not (self.path / READY).exists():
            self.mark_ready(True)
            gone.append(READY)
        return gone

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _make_again(self) -> None:
        _make_home(self.path.parent)
        # Held before it has its name: it is never found without an owner. Of the name of no run meanwhile.
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.mkdir(mode=0o700, exist_ok=True)
        fd = _held(fresh)
        try:
            if self.path.exists():
                # Another process has made one: it is taken, if it is empty and no living run's.
                if self.path.stat().st_uid != os.getuid() or _is_held(self.path):
                    raise OwnerAlive(f"{self.path}: another run has made a folder of this name")
                shutil.rmtree(self.path)
            fresh.rename(self.path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                fresh.rmdir()
            raise
        old, self._fd = self._fd, fd
        os.close(old)

    def remove(self) -> None:
        """Remove it with all that is in it; never raises."""
        # The owner's lock goes last: until then everything here has a living owner.
        with suppress(OSError):
            if self._is_there():
                for entry in self.path.iterdir():
                    if entry.name == CLIENTS:
                        shutil.rmtree(entry, ignore_errors=True)
                    elif entry.name != LOCK:
                        with suppress(OSError):
                            entry.unlink()
        self._lock.release()
        with suppress(OSError):
            if self._is_there():
                shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._fd)


def _held(folder: Path) -> int:
    """A descriptor of the folder that holds its lock, if its file system has such locks."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for _ in range(_HOLD_ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(_HOLD_PAUSE_S)
        except OSError:
            break  # Its file system knows none for folders, as NFS does not; `owner.lock` remains.
    return fd


def _is_held(folder: Path) -> bool:
    """Whether a living process holds the folder; False too if that cannot be told."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


class Run(NamedTuple):
    """A living run, as others see it."""

    folder: Path
    ready: bool
    started: int
    """When its supervisor started: clock ticks since boot."""
    made_ns: int
    """When its lock was made: tells apart what started in the same tick."""

    @property
    def pipeline(self) -> str:
        """The name of what runs there."""
        return pipeline_of(self.folder)


def pipeline_of(folder: Path) -> str:
    """The name of the pipeline whose run has this folder."""
    return folder.name.rpartition("-")[0]


def preferred(found: Iterable[Run]) -> list[Run]:
    """The runs in the order in which a client wants them: those that are ready first, then the newest. Pure."""
    return sorted(found, key=lambda run: (run.ready, run.started, run.made_ns), reverse=True)


def runs(pipeline: str | None = None) -> list[Path]:
    """The folders of the runs that are alive, of one pipeline or of all, as `preferred` orders them.

    Raises:
        Unavailable: the folder of all runs may not be read.
    """
    return [run.folder for run in _living(pipeline)]


def _living(pipeline: str | None) -> list[Run]:
    home = runs_home()
    try:
        found = [run for folder in _folders(home) if (run := _run_of(folder, pipeline)) is not None]
    except OSError as error:
        raise Unavailable(f"cannot look for runs in {home}: {error}; {_OWN_HOME}") from error
    return preferred(found)


def _folders(home: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from home.iterdir()


def _run_of(folder: Path, pipeline: str | None) -> Run | None:
    name, _, pid = folder.name.rpartition("-")
    lock = folder / LOCK
    if not pid.isdigit() or pipeline not in (None, name) or not isinstance(probe(lock), Alive):
        return None
    started = made_ns = 0
    # It may have ended since.
    with suppress(OSError):
        made_ns = lock.stat().st_mtime_ns
        if found := re.match(rb"pid \d+ start (\d+)", lock.read_bytes()):
            started = int(found[1])
    return Run(folder, (folder / READY).exists(), started, made_ns)


def find_run(pipeline: str | Path | None = None) -> Path:
    """The folder of a living run: by path, by the pipeline's name, or the only one there is.

    Of several runs of one pipeline it is the newest that is ready; if none is, the newest.

    Raises:
        Unavailable: none is alive, or several pipelines are and none was named.
    """
    if pipeline is not None and os.sep in str(pipeline):
        return Path(pipeline)
    found = _living(None if pipeline is None else str(pipeline))
    if not found:
        what = f"pipeline {pipeline!r}" if pipeline is not None else "pipeline"
        raise Unavailable(
            f"no {what} is running here (looked in {runs_home()}); start one with: pipeline run CONFIG --serve"
        )
    if pipeline is None and len({run.pipeline for run in found}) > 1:
        names = ", ".join(run.folder.name for run in found)
        raise Unavailable(f"several pipelines are running ({names}); name one")
    return found[0].folder


def remove_dead_runs() -> list[Path]:
    """Remove what runs whose owner is proven dead have left: segments and folders; the folders.

    Segments of dead owners are removed even if their folder is gone.

    Raises:
        StartError: the folder of all runs may not be read.
    """
    home = runs_home()
    try:
        dead = [folder for folder in _folders(home) if _is_dead(folder)]
    except OSError as error:
        raise StartError(f"cannot look for dead runs in {home}: {error}; {_OWN_HOME}") from error
    # Segments first, folders looked up before: the lock in the folder proves both dead, and goes with the segments.
    leftovers.collect()
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return dead


def _is_dead(folder: Path) -> bool:
    # Whatever was removed of it: while its supervisor lives, it holds the folder.
    if _is_held(folder):
        return False
    # Sockets are made after the lock and removed before it. If they are without one, a process with
    # another home has collected the dead run's segments, and the lock with them. Looked at in this
    # order, a run that starts or ends meanwhile is never taken for dead.
    has_sockets = any(folder.glob(f"*{SOCKET_SUFFIX}"))
    return isinstance(probe(folder / LOCK), Dead) or (has_sockets and not (folder / LOCK).exists())
