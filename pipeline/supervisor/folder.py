"""The folder of a run, as its supervisor makes it and looks after it: what is removed from it is made anew."""

from __future__ import annotations

from pipeline.errors import StartError
from pipeline.graph.plan import Plan
from pipeline.supervisor.run_log import RunLog
from pipeline.supervisor.successors import Root
from pipeline.wire.links import Inbox
from pipeline.wire.run_dir import FRONT
from pipeline.wire.run_folder import RunFolder
from shm.errors import NotInGroup, OwnerAlive

__all__ = ["look_after_folder", "make_folder"]


def make_folder(plan: Plan, root: Root | None) -> RunFolder:
    """Make the folder of a run of this plan.

    Args:
        root: the supervisor that has started the run, if it is a new version or a shard.

    Raises:
        StartError: it cannot be made.
    """
    if root is None:
        return RunFolder(plan.name, None, plan.group, plan.segment_dir)
    folder = RunFolder(root.name_of(plan.name), root.folder, plan.group, plan.segment_dir)
    if root.front is not None:
        folder.link(FRONT, root.front.name)
    return folder


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
