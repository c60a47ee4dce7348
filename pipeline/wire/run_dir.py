"""Run folders: where a run keeps its sockets and locks, and how others find it.

    <home>/<pipeline>-<pid>/        0700
        owner.lock                  held by the supervisor for as long as it lives
        supervisor.sock scheduler.sock ingress.sock w<number>.sock
        scheduler.lock              held by the scheduler; clients watch it
        clients/<id>.lock           held by each client for as long as it lives

The home is $TRTLAB_RUN_DIR, else $XDG_RUNTIME_DIR/trtlab, else <tmp>/trtlab-<uid>. Containers of one
pod share it as a volume, beside /dev/shm.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from pipeline.errors import StartError, Unavailable
from shm import leftovers
from shm.owner import Alive, Dead, probe

__all__ = ["LOCK", "SCHEDULER_LOCK", "find_run", "make_run_dir", "remove_dead_runs", "runs", "runs_home"]

LOCK = "owner.lock"

SCHEDULER_LOCK = "scheduler.lock"
"""Held by the scheduler of a run; clients watch it."""


def runs_home() -> Path:
    """The folder that holds the run folders."""
    if configured := os.environ.get("TRTLAB_RUN_DIR"):
        return Path(configured)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "trtlab"
    return Path(tempfile.gettempdir()) / f"trtlab-{os.getuid()}"


def make_run_dir(pipeline: str) -> Path:
    """A fresh folder for a run of this process, for this user alone.

    Raises:
        StartError: it cannot be made, the home belongs to somebody else, or a living run has the same name.
    """
    home = runs_home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.getuid():
            raise StartError(f"{home} belongs to another user; set TRTLAB_RUN_DIR to a folder of yours")
        run_dir = home / f"{pipeline}-{os.getpid()}"
        if run_dir.exists():
            # Our own pid in its name, so whoever made it is dead, or lives in another pid namespace.
            if isinstance(probe(run_dir / LOCK), Alive):
                raise StartError(
                    f"the run in {run_dir} is alive; set TRTLAB_RUN_DIR to a folder of this container's own"
                )
            shutil.rmtree(run_dir)
        run_dir.mkdir(mode=0o700)
        (run_dir / "clients").mkdir(mode=0o700)
    except OSError as error:
        raise StartError(f"cannot make a folder for the run in {home}: {error}; set TRTLAB_RUN_DIR") from error
    return run_dir


def runs(pipeline: str | None = None) -> list[Path]:
    """The folders of the runs that are alive, the newest first; of one pipeline, or of all."""
    home = runs_home()
    found = []
    for folder in home.iterdir() if home.is_dir() else ():
        name, _, pid = folder.name.rpartition("-")
        if pid.isdigit() and pipeline in (None, name) and isinstance(probe(folder / LOCK), Alive):
            found.append(folder)
    return sorted(found, key=_made_at, reverse=True)


def _made_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # It has ended since.


def find_run(pipeline: str | Path | None = None) -> Path:
    """The folder of a living run: by path, by the pipeline's name, or the only one there is.

    Raises:
        Unavailable: none is alive, or several are and none was named.
    """
    if pipeline is not None and os.sep in str(pipeline):
        return Path(pipeline)
    found = runs(None if pipeline is None else str(pipeline))
    if not found:
        what = f"pipeline {pipeline!r}" if pipeline is not None else "pipeline"
        raise Unavailable(
            f"no {what} is running here (looked in {runs_home()}); start one with: pipeline run CONFIG --serve"
        )
    if pipeline is None and len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise Unavailable(f"several pipelines are running ({names}); name one")
    return found[0]


def remove_dead_runs() -> list[Path]:
    """Remove what runs whose owner is proven dead have left: segments and folders; the folders.

    Segments of dead owners are removed also where their folder is gone.
    """
    home = runs_home()
    dead = [folder for folder in (home.iterdir() if home.is_dir() else ()) if _is_dead(folder)]
    # Segments first, folders looked up before: the lock in the folder proves both dead, and goes with the segments.
    leftovers.collect()
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return dead


def _is_dead(folder: Path) -> bool:
    # Sockets are made after the lock and removed before it. Where they are without one, somebody with
    # another home has collected the dead run's segments, and the lock with them. Looked at in this
    # order, a run that starts or ends meanwhile is never taken for dead.
    has_sockets = any(folder.glob("*.sock"))
    return isinstance(probe(folder / LOCK), Dead) or (has_sockets and not (folder / LOCK).exists())
