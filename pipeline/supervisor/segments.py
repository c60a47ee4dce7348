"""The segments of a run: made before anything starts, looked at while it runs, removed at its end.

`pipeline check --pages` makes them in the same way, for a moment.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import StartError
from pipeline.graph.locality import near_cpus
from pipeline.graph.plan import Plan
from pipeline.topology.refusals import refusal_of
from pipeline.wire.run_dir import LOCK
from pipeline.worker.recorder import RECORD_BYTES
from shm import segments
from shm.errors import SegmentError
from shm.placement import prefault
from shm.segment import Segment, SegmentSpec

#: Errors of attaching that say nothing against the segment; posix_ipc gives its errors for the first two no number.
_OWN_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, None)

__all__ = ["damage_of", "make_segments", "unlink_segments"]


def make_segments(plan: Plan, run_dir: Path, made: list[Segment], *, recorder: bool) -> Iterator[Segment]:
    """Append a new segment for each pool, and one for the flight records, to `made`, one a step.

    Raises:
        StartError: one cannot be made; those before it are in `made`.
    """
    wanted = [(pool.name, pool.slot_bytes, pool.slots) for pool in plan.pools]
    if recorder:
        wanted.append(("recorder", RECORD_BYTES, sum(len(stage.workers) for stage in plan.stages)))
    for name, slot_bytes, slots in wanted:
        spec = SegmentSpec(
            run=run_dir.name,
            pool=name.replace("/", "-"),
            slot_bytes=slot_bytes,
            slots=slots,
            lock_path=str(run_dir / LOCK),
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
        yield segment


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
