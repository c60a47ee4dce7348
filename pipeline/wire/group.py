"""Group: the users that may be clients of a run although they are not its own user (`segments: {group: ...}`).

All processes tell it from the run's folder: if a group can enter that, it is the run's. What its members may do with
each file stands in the drawing of `pipeline.wire.run_dir`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StartError, Unavailable
from pipeline.wire.absence import no_run_in
from pipeline.wire.address import CLIENT, CLIENTS, SCHEDULER, Address
from pipeline.wire.run_dir import lock_path
from shm.errors import NotInGroup
from shm.owner import OwnerLock
from shm.permissions import why_closed

__all__ = ["group_of", "hold_lock", "socket_mode", "taking_place"]


def group_of(run_dir: Path) -> int | None:
    """The group that a run is open to; None: it is its user's alone, or not there."""
    try:
        found = run_dir.stat()
    except OSError:
        return None
    return found.st_gid if found.st_mode & stat.S_IXGRP else None


def socket_mode(run_dir: Path, address: Address) -> tuple[int | None, int]:
    """The group and the permissions of the socket of a process of a run.

    The group reaches the scheduler, and the scheduler reaches clients. Other processes of the run take messages that
    no client may send.
    """
    group = group_of(run_dir)
    if group is None or not (address == SCHEDULER or address.kind == CLIENT):
        return None, 0o600
    return group, 0o660


def hold_lock(run_dir: Path, address: Address) -> OwnerLock:
    """Hold the lock of a process of a run, in this process; the run's group may see it.

    Raises:
        OwnerAlive, NotInGroup, OSError: as `OwnerLock.acquire`.
    """
    return OwnerLock.acquire(lock_path(run_dir, address), group_of(run_dir))


@contextmanager
def taking_place(run_dir: Path) -> Iterator[None]:
    """A `with` block in which a process takes a client's place in the folder of a run.

    Raises:
        Unavailable: there is none, and why: no run is there, it has ended meanwhile, or it lets this user not in.
        StartError: the inbox cannot be made, although the folder is there.
    """
    try:
        yield
    except (OSError, NotInGroup) as error:
        raise _no_place(run_dir, error) from error
    except StartError as error:
        if run_dir.exists():
            raise
        # Since its folder was found it has ended, and others have removed what it had left.
        raise _no_place(run_dir, error) from error


def _no_place(run_dir: Path, error: Exception) -> Unavailable:
    if isinstance(error, NotInGroup):
        return Unavailable(f"the pipeline in {run_dir} lets no client of this user in: {error}")
    for folder in (run_dir.parent, run_dir, run_dir / CLIENTS):
        if (why := why_closed(folder)) is not None:
            return Unavailable(f"the pipeline in {run_dir} lets no client of this user in: {why}")
    return Unavailable(no_run_in(run_dir, error))
