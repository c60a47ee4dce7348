"""Run folders: where a run keeps its sockets and locks, and how others find it.

    <home>/<pipeline>-<pid>/        0700; held (flock) by the supervisor for as long as it lives       0710
        owner.lock                  held by the supervisor, too; segments name it                      0640
        ready                       there while the run is ready
        stopping                    there from when it is told to end, or ends by itself, to its end
        segments                    the folder of the segments, if they are files
        supervisor.sock w<number>.sock w<number>.ring
        scheduler.sock scheduler.ring                                                                  0660
        scheduler.lock              held by the scheduler; clients watch it                            0640
        clients/                                                                                       3730
            <id>.lock               held by each client for as long as it lives                        0640
            <id>.sock <id>.ring                                                                        0660
        root                        a link, in the folder of a run that has been started by a reload: to the folder of
                                    the supervisor that was started first
        front                       a link, in the folder of a shard: to that of the supervisor that has started it
        successor                   a link, once the run has been replaced: in the root's folder to that of the run
                                    which serves now, in any other one to the root's
        ended                       the run has ended, and its supervisor lives on as the root of those that serve
        owned                       the lock was taken: if it is not there and the folder not held, the run is dead
    <home>/.<pipeline>-<pid>.*.new/ is being made: it has its name once it has its lock
    <home>/.<pipeline>-<pid>*.dead/ is being removed

The home is $TRTLAB_RUN_DIR, else $XDG_RUNTIME_DIR/trtlab, else <tmp>/trtlab-<uid>. Containers of one
pod share it as a volume, beside that of the segments.

All is this user's alone (0700, 0600), unless the run has a group: then the right column says what its members may do.
What is made in `clients/` is of its group too, so that the scheduler can open it; it is sticky, so that a client
removes its own files only; and it cannot be listed: a client's number is that client's and the scheduler's to know.
The process id in the name means nothing to others, and two containers may have the same: then the second run takes a
number that no process has.

The lock on the folder itself keeps systemd-tmpfiles from it, which passes over a folder that is locked, with all
that is in it (tmpfiles.d(5), "Age"). Others that clean do not ask: what they remove, each process makes anew.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import StartError, Unavailable
from pipeline.wire.absence import nothing_runs
from pipeline.wire.address import SCHEDULER, SOCKET_SUFFIX, SUPERVISOR, Address
from pipeline.wire.folder_lock import is_free, is_held
from pipeline.wire.home import OWN_HOME, folders_in, named_folder, remove_folder, runs_home
from shm import leftovers
from shm.owner import Alive, Dead, probe
from shm.permissions import why_closed

__all__ = [
    "ENDED", "FRESH", "FRONT", "LOCK", "OWNED", "READY", "ROOT", "SEGMENTS", "STOPPING", "SUCCESSOR", "Run", "find_run",
    "has_ended", "living_runs", "lock_path", "pipeline_of", "preferred", "remove_dead_runs", "root_of", "run_in",
    "runs", "runs_home", "segment_dirs", "serving", "successor_of", "why_none",
]  # fmt: skip

LOCK = "owner.lock"

READY = "ready"

STOPPING = "stopping"

#: How the names end of folders that are being made, and of those that are being removed.
FRESH = ".new"
_DEAD = ".dead"
OWNED = "owned"

SEGMENTS = "segments"

FRONT = "front"
ROOT = "root"
SUCCESSOR = "successor"
ENDED = "ended"

#: How long a dead run's folder is waited for whose segments another process removes just now, and how often looked at.
_CLAIMED_S, _CLAIMED_PAUSE_S = 1.0, 0.01

#: A replaced run leads to its root, and that to the run that serves; a third step is for a hand-over in between.
_MOST_STEPS = 4


def lock_path(run_dir: Path, address: Address) -> Path:
    """The file that a process of a run holds a lock on for as long as it lives; others see its death by it."""
    return run_dir / (LOCK if address == SUPERVISOR else f"{address.file}.lock")


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


def successor_of(folder: Path) -> Path | None:
    """The folder that leads to the run which has replaced the one in `folder`; None if none has."""
    return _linked(folder, SUCCESSOR)


def root_of(folder: Path) -> Path:
    """The folder of the supervisor that was started first, of the run in `folder` and all that have replaced it."""
    return _linked(folder, ROOT) or folder


def serving(folder: Path) -> Path:
    """The folder of the run that serves in place of the one in `folder`: that itself, unless it has been replaced."""
    for _ in range(_MOST_STEPS):
        if (successor := successor_of(folder)) is None:
            break
        folder = successor
    return folder


def has_ended(folder: Path) -> bool:
    """Whether the run in `folder` has ended, although its supervisor lives: it is the root of those that serve."""
    return (folder / ENDED).exists()


def _linked(folder: Path, name: str) -> Path | None:
    # First, since a gateway asks at each call: an error would cost ten times as much.
    if not os.access(f"{folder}/{name}", os.F_OK, follow_symlinks=False):
        return None
    try:
        return folder.parent / os.path.basename(os.readlink(folder / name))
    except OSError:
        return None


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
    return [run.folder for run in living_runs(pipeline)]


def living_runs(pipeline: str | None = None, *, shards: bool = False) -> list[Run]:
    """As `runs`, with what else others see of them; if no name is given, without the shards of pipelines.

    Args:
        shards: with them (see `pipeline.wire.shards`).
    """
    home = runs_home()
    try:
        found = [run for folder in folders_in(home) if (run := run_in(folder, pipeline)) is not None]
    except OSError as error:
        raise Unavailable(f"cannot look for runs in {home}: {error}; {OWN_HOME}") from error
    # A shard is found by its own name only: clients go through its front's door.
    return preferred(run for run in found if shards or pipeline is not None or "." not in run.pipeline)


def run_in(folder: Path, pipeline: str | None = None) -> Run | None:
    """The living run in this folder; None if there is none, or if neither it nor its pipeline has that name."""
    name, _, pid = folder.name.rpartition("-")
    lock = folder / LOCK
    if not pid.isdigit() or pipeline not in (None, name, folder.name) or not isinstance(probe(lock), Alive):
        return None
    if has_ended(folder):
        return None
    started = made_ns = 0
    # It may have ended since.
    with suppress(OSError):
        made_ns = lock.stat().st_mtime_ns
        if found := re.match(rb"pid \d+ start (\d+)", lock.read_bytes()):
            started = int(found[1])
    return Run(folder, (folder / READY).exists(), started, made_ns)


def find_run(pipeline: str | Path | None = None) -> Path:
    """The folder of a living run: by path, by its id, by the pipeline's name, or the only one there is.

    If the run with this path or id has been replaced, it is that of the run that serves in its place. Of several runs
    of one pipeline it is the newest that is ready; if none is, the newest.

    Raises:
        Unavailable: none is alive, or several pipelines are and none was named.
    """
    name = None if pipeline is None else str(pipeline)
    if name is not None and (folder := named_folder(name)) is not None:
        return serving(folder)
    found = living_runs(name)
    if not found:
        raise Unavailable(why_none(name))
    if pipeline is None and len({run.pipeline for run in found}) > 1:
        names = ", ".join(run.folder.name for run in found)
        raise Unavailable(f"several pipelines are running ({names}); name one")
    return found[0].folder


def why_none(pipeline: str | None) -> str:
    """Why no run of a pipeline is found, or none at all: there is none, or this process may not see it."""
    home = runs_home()
    if (why := why_closed(home)) is not None:
        return f"cannot look for runs in {home}: {why}"
    with suppress(OSError):
        for folder in folders_in(home):
            if pipeline in (None, pipeline_of(folder)) and (why := why_closed(folder)) is not None:
                return f"cannot see whether the run in {folder} is alive: {why}"
    return nothing_runs(pipeline, [run.pipeline for run in living_runs()])


def segment_dirs() -> list[str]:
    """The folders in which the segments of this user's runs are files, as the runs' own folders say."""
    found = []
    with suppress(OSError):
        for folder in folders_in(runs_home()):
            with suppress(OSError, ValueError):
                note = folder / SEGMENTS
                if note.stat().st_uid == os.geteuid():
                    found.append(note.read_text())
    return list(dict.fromkeys(found))


def remove_dead_runs(segment_dir: str = "") -> list[Path]:
    """Remove what runs whose owner is proven dead have left: segments and folders; the folders.

    Segments of dead owners are removed even if their folder is gone.

    Args:
        segment_dir: where their segments may be files, too, beside the folders that the runs' own folders name.

    Raises:
        StartError: the folder of all runs may not be read.
    """
    removed: list[Path] = []
    end = time.monotonic() + _CLAIMED_S
    while True:
        removed += [folder for folder in _remove_once(segment_dir) if folder not in removed]
        # Any process of this user collects the segments of any home: it holds the dead run's lock meanwhile, so that
        # the run looks alive, and leaves the folder without it. So does this one, if the run has died after the look at
        # folders. If no process looked again, the folder would stay.
        left = [folder for folder in folders_in(runs_home()) if folder not in removed and _is_left(folder)]
        if not left or time.monotonic() > end:
            return removed
        time.sleep(_CLAIMED_PAUSE_S)


def _remove_once(segment_dir: str) -> list[Path]:
    home = runs_home()
    try:
        found = list(folders_in(home))
        dead = [folder for folder in found if _is_complete(folder) and _is_dead(folder)]
        half_removed = [folder for folder in found if folder.suffix == _DEAD and _is_own(folder)]
        half_made = [folder for folder in found if folder.suffix == FRESH and _is_own(folder) and not is_held(folder)]
    except OSError as error:
        raise StartError(f"cannot look for dead runs in {home}: {error}; {OWN_HOME}") from error
    # Segments first, folders looked up before: the lock in the folder proves both dead, and goes with the segments.
    leftovers.collect([*segment_dirs(), *([segment_dir] if segment_dir else ())])
    for folder in dead:
        # First of another name: if this process is killed in the middle of it, what is left of the folder, which may
        # have neither lock nor socket, is still known to be dead.
        with suppress(OSError):
            folder = folder.rename(folder.with_name(f".{folder.name}{_DEAD}"))
        remove_folder(folder, ignore_errors=True)
    for folder in half_made:
        # Of another name as well: if its maker lives, and had not yet held it, it sees that, and makes another one.
        with suppress(OSError):
            half_removed.append(folder.rename(folder.with_suffix(_DEAD)))
    for folder in half_removed:
        remove_folder(folder, ignore_errors=True)
    return dead


def _is_own(folder: Path) -> bool:
    """Whether this user made it: in a home that users share, each removes its own."""
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False  # another process has removed it since


def _is_complete(folder: Path) -> bool:
    """Whether its name is that of a run's folder."""
    return folder.suffix not in (_DEAD, FRESH)


def _is_left(folder: Path) -> bool:
    """Whether a dead run has left it, although another process may have its lock at the moment."""
    if not (_is_complete(folder) and _is_own(folder)):
        return False
    # A living run would hold the folder, too.
    return _is_dead(folder) or (is_free(folder) and isinstance(probe(folder / LOCK), Alive))


def _is_dead(folder: Path) -> bool:
    if not _is_own(folder):
        return False
    # Whatever was removed of it: while its supervisor lives, it holds the folder.
    if is_held(folder):
        return False
    # `owned`, sockets and the scheduler's lock are made after the lock and removed before it, `stopping` right after.
    # If they are there without one, a process with another home has collected the dead run's segments, and the lock
    # with them; or such a process, or the run itself, was killed before the folder was gone; or a child that lived on
    # for a moment made its own anew. Looked at in this order, a run that ends meanwhile is never taken for dead.
    scheduler = probe(lock_path(folder, SCHEDULER))
    has_files = (
        (folder / OWNED).exists() or (folder / STOPPING).exists() or isinstance(scheduler, Dead)
        or any(folder.glob(f"*{SOCKET_SUFFIX}"))
    )  # fmt: skip
    return isinstance(probe(folder / LOCK), Dead) or (has_files and not (folder / LOCK).exists())
