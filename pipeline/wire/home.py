"""The home of runs: the folder that has a folder for each run of this user, or of this pod."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StartError
from pipeline.wire.folder_lock import is_held
from shm.permissions import open_to

__all__ = ["OWN_HOME", "folders_in", "logs_home", "make_home", "named_folder", "remove_folder", "runs_home"]

OWN_HOME = "set TRTLAB_RUN_DIR to a folder of yours"
"""What to do about a home that cannot be used."""


def runs_home() -> Path:
    """The folder that holds the run folders, as an absolute path: segments name a lock in it for readers anywhere."""
    if configured := os.environ.get("TRTLAB_RUN_DIR"):
        return Path(configured).absolute()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime).absolute() / "trtlab"
    import tempfile  # and with it modules for archives and random numbers: children are told the folder

    return Path(tempfile.gettempdir()).absolute() / f"trtlab-{os.getuid()}"


def logs_home() -> Path | None:
    """The folder that holds the logs of runs, those that have ended too.

    It is $XDG_STATE_HOME/trtlab/logs, else ~/.local/state/trtlab/logs; None: this user has no home folder, as in some
    containers. Not in the home of runs, which is memory in most cases, empty once the user has logged out, and in a pod
    for the app as well.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
    return state / "trtlab" / "logs" if state.is_absolute() else None


def named_folder(named: str) -> Path | None:
    """The folder of a run that a person has named by its path, or by its id (detect-29227) while its supervisor lives.

    None: it is the name of a pipeline.
    """
    if os.sep in named:
        return Path(named)
    folder = runs_home() / named
    return folder if named.rpartition("-")[2].isdigit() and is_held(folder) else None


def make_home(home: Path, group: int | None = None) -> None:
    """Make the home if it is missing, for this user alone, or so that a group can look for runs in it.

    Raises:
        StartError: it is another user's and not the group's, or closed to the group.
        NotInGroup: it cannot be given to the group.
        OSError: it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True)
        if group is not None:
            # Its members look here for runs.
            open_to(group, home, 0o750)
    except FileExistsError:
        if not home.is_dir():
            raise
    found = home.stat()
    # A volume belongs to root, and to the group of the pod (fsGroup).
    if found.st_uid != os.getuid() and (group is None or found.st_gid != group):
        volume = "" if group is None else f" and to group {found.st_gid}, and the pipeline's group is {group}"
        raise StartError(f"{home} belongs to another user{volume}; {OWN_HOME}")
    needed = 0o050 if found.st_gid == group else 0o005
    if group is not None and found.st_mode & needed != needed:
        raise StartError(
            f"{home} is closed to group {group}, which clients are in: chgrp {group} {home} && chmod g+rx {home}, or "
            f"let securityContext.fsGroup: {group} do it"
        )


def folders_in(home: Path) -> Iterator[Path]:
    """What lies in the home; nothing if there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from home.iterdir()


def remove_folder(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, as `shutil.rmtree`.

    Raises:
        OSError: it cannot be removed, and errors are not ignored.
    """
    import shutil  # and with it four modules for archives, which no child should wait for

    shutil.rmtree(folder, ignore_errors=ignore_errors)
