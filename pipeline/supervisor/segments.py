"""The segments of a run: made before anything starts, looked at while it runs, removed at its end.

`pipeline check --pages` makes them in the same way, for a moment.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipeline.errors import StartError
from pipeline.graph.interface import READS, WRITES, clients_may
from pipeline.graph.locality import near_cpus
from pipeline.graph.plan import Plan, records_of
from pipeline.topology.refusals import refusal_of
from pipeline.wire.run_dir import LOCK
from pipeline.worker.recorder import RECORD_BYTES
from shm import segments
from shm.errors import NotInGroup, SegmentError, ShmError
from shm.permissions import open_to
from shm.placement import prefault
from shm.segment import Segment, SegmentSpec

#: Errors of attaching that say nothing against the segment; posix_ipc gives its errors for the first two no number.
_OWN_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, None)

#: The permissions of the segments that clients touch, once they are open to the group.
_MODES = {WRITES: 0o660, READS: 0o640}

__all__ = ["damage_of", "make_segments", "make_segments_in_time", "unlink_segments"]

_ROOM_S = 10.0
"""How long the memory of the epoch before may take to be freed, if there is not enough for both."""

_PAUSE_S = 0.005


def make_segments(plan: Plan, run_dir: Path, made: list[Segment], *, recorder: bool) -> Iterator[Segment]:
    """Append a new segment for each pool, and one for the flight records, to `made`, one a step.

    If the plan has a group, the last step opens to it those that clients touch.

    Raises:
        StartError: one cannot be made; those before it are in `made`.
    """
    if plan.segment_dir:
        _make_dir(Path(plan.segment_dir), plan.group)
    of_plan: list[Segment] = []
    wanted = [(pool.name, pool.slot_bytes, pool.slots) for pool in plan.pools]
    if recorder:
        wanted.append(("recorder", RECORD_BYTES, records_of(plan)))
    for name, slot_bytes, slots in wanted:
        spec = SegmentSpec(
            run=run_dir.name,
            pool=name.replace("/", "-"),
            slot_bytes=slot_bytes,
            slots=slots,
            lock_path=str(run_dir / LOCK),
            folder=plan.segment_dir,
        )
        try:
            segment = segments.create(plan.segment_kind, spec)
            made.append(segment)
            # A first touch in the middle of a request costs 28 times what the copy itself does.
            prefault(segment, cpus=near_cpus(plan, name))
        except SegmentError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f"cannot make the segment of pool {name}: {refusal_of(error)}") from error
        of_plan.append(segment)
        yield segment
    if plan.group is not None:
        # After all are made: the headers of those that stay this user's alone say for the others, which the group may
        # write, whose they are (see `shm.leftovers`).
        for pool, segment in zip(plan.pools, of_plan):
            if (use := clients_may(plan, pool.name)) is not None:
                _open_to(plan.group, segment, _MODES[use])


def _open_to(group: int, segment: Segment, mode: int) -> None:
    try:
        segment.open_to(group, mode)
    except ShmError as error:
        raise StartError(str(error)) from error


def _make_dir(folder: Path, group: int | None) -> None:
    """Make the folder of the segments if it is missing, and see whether the group can enter it.

    Raises:
        StartError: it cannot be made, or the group cannot enter it.
    """
    try:
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            found = folder.stat()
            opened = found.st_mode & 0o001 or (found.st_gid == group and found.st_mode & 0o010)
            if group is not None and not opened:
                raise StartError(
                    f"segments.dir: {folder} is closed to group {group}, which clients are in: "
                    f"chgrp {group} {folder} && chmod g+x {folder}, or let securityContext.fsGroup: {group} do it"
                ) from None
        else:
            if group is not None:
                open_to(group, folder, 0o710)
    except OSError as error:
        raise StartError(f"segments.dir: cannot make {folder}: {error.strerror}; mount a volume there") from error
    except NotInGroup as error:
        folder.rmdir()
        raise StartError(str(error)) from error


def make_segments_in_time(
    plan: Plan, run_dir: Path, *, recorder: bool, make_room: Callable[[StartError], None]
) -> list[Segment]:
    """One for each pool, perhaps one for the flight records, in place of others that processes still map.

    Args:
        make_room: called once if there is no room beside those: their processes must let go of them.

    Raises:
        StartError: there was no room in time.
    """
    end = time.monotonic() + _ROOM_S
    asked = False
    while True:
        fresh: list[Segment] = []
        try:
            deque(make_segments(plan, run_dir, fresh, recorder=recorder), maxlen=0)
            return fresh
        except StartError as error:
            unlink_segments(fresh)
            if time.monotonic() >= end:
                raise
            if not asked:
                asked = True
                make_room(error)
            time.sleep(_PAUSE_S)
        except BaseException:
            unlink_segments(fresh)
            raise


def unlink_segments(made: Iterable[Segment]) -> None:
    """Unmap the segments, and remove their names."""
    for segment in made:
        segment.close()
        segment.unlink()


def damage_of(segment: Segment) -> str | None:
    """Why it could not be attached now, or None; None too if this process itself has no descriptor or memory for it."""
    try:
        segments.attach(segment.address).close()
    except (SegmentError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in _OWN_WANT:
            return None
        return str(error)
    return None
