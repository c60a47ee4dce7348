"""Flight records: what the workers of a run write down of what they do, as their supervisor reads it.

A record lies in shared memory, so it outlives its worker: it says what a dead one was computing, and since when a hung
one has been at it.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping
from typing import NamedTuple

from pipeline.graph.plan import Plan
from pipeline.supervisor.instructions import Child
from pipeline.wire.address import Address
from pipeline.worker.recorder import Recorder
from shm.segment import Segment

__all__ = ["FlightRecords", "Last", "Overrun"]


class Overrun(NamedTuple):
    """A process has been computing one batch of a stage for longer than the stage's `timeout_ms`."""

    process: Address
    stage: int
    for_ms: float


class Last(NamedTuple):
    """What the records of a dead process say, by stage; see `supervision.Exit`."""

    running: dict[int, tuple[int, ...]]
    finished: dict[int, int]
    rows: dict[int, int]


class FlightRecords:
    """The records of the processes that live."""

    def __init__(self, plan: Plan) -> None:
        self._limits = [stage.timeout_ms for stage in plan.stages]
        #: Of each worker process, by the stage whose worker writes it.
        self._records: dict[Address, dict[int, Recorder]] = {}
        #: Batches that the dead workers of each stage had finished.
        self._retired = [0] * len(plan.stages)

    @property
    def processes(self) -> KeysView[Address]:
        """The worker processes that have records."""
        return self._records.keys()

    def begin(self, child: Child, segment: Segment) -> None:
        """The process is about to be born, and its workers to write into `segment`."""
        records = self._records[child.address] = {}
        for post in child.posts:
            record = records[post.stage] = Recorder(segment.slot(post.record))
            record.clear()

    def forget(self, process: Address) -> None:
        """It could not be born."""
        for record in self._records.pop(process, {}).values():
            record.close()

    def end(self, process: Address) -> Last:
        """The process is dead: what its records say. If it has none, nothing.

        One that was computing nothing may have died of what its last batch had broken: that is told as running then,
        and not as finished. If the scheduler knows what came of it, it suspects nothing of it.
        """
        last = Last({}, {}, {})
        records = self._records.pop(process, {})
        was_last = None if any(record.since for record in records.values()) else _last_of(records)
        for stage, record in records.items():
            self._retired[stage] += record.done - (stage == was_last)
            alive = sum(others[stage].done for others in self._records.values() if stage in others)
            last.finished[stage] = self._retired[stage] + alive
            if requests := record.last if stage == was_last else record.running:
                last.running[stage], last.rows[stage] = requests, record.row
            record.close()
        return last

    def overruns(self, now_ns: int) -> Iterator[Overrun]:
        """Those that take too long.

        Args:
            now_ns: of the monotonic clock.
        """
        for process, records in self._records.items():
            for stage, record in records.items():
                limit, since = self._limits[stage], record.since
                if limit is not None and since and now_ns - since > limit * 1e6:
                    yield Overrun(process, stage, (now_ns - since) / 1e6)

    def close(self) -> None:
        """Let go of all of them."""
        for process in list(self._records):
            self.forget(process)


def _last_of(records: Mapping[int, Recorder]) -> int | None:
    """The stage that has computed the last batch of a process; None: it has computed none."""
    began, stage = max(((record.last_began, stage) for stage, record in records.items()), default=(0, 0))
    return stage if began else None
