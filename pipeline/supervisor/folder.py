"""The folder of a run, as its supervisor looks after it: what is removed from it is made anew."""

from __future__ import annotations

from pipeline.errors import StartError
from pipeline.supervisor.run_log import RunLog
from pipeline.wire.links import Inbox
from pipeline.wire.run_dir import RunFolder
from shm.errors import NotInGroup, OwnerAlive

__all__ = ["look_after_folder"]


def look_after_folder(folder: RunFolder, inbox: Inbox, log: RunLog, *, lost: bool) -> bool:
    """Make anew what was removed from the run's folder; children do so with their own sockets and locks.

    Args:
        inbox: the supervisor's own.
        lost: what the last call has returned.

    Returns:
        Whether it was removed and cannot be made anew for now.
    """
    try:
        renewed = [*folder.renew(), *inbox.renew()]
    except (OSError, StartError, OwnerAlive, NotInGroup) as error:
        if not lost:
            why = "the run's folder was removed and cannot be made anew; no client finds the run"
            log("error", f"{why}: {error}")
        return True
    if renewed:
        log("warning", f"was removed, and is made anew in {folder.path}: {', '.join(renewed)}")
    return False
