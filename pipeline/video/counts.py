"""Counts: what has become of a camera's frames, since its source began. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.metrics.buckets import MICROSECONDS
from pipeline.video.reconnection import Reconnection
from pipeline.wire.camera import CameraCounts
from pipeline.wire.labels import short_name
from pipeline.wire.records import Spread, Trace

__all__ = ["Counts"]


class Counts:
    """Of one camera.

    Args:
        camera: its name.
        stages: how many the plan has.
    """

    def __init__(self, camera: str, stages: int) -> None:
        self._camera = camera
        self.frames = 0
        self.last_frame = 0
        self.sent = 0
        self.answered = 0
        self.failed = 0
        self.copied = 0
        self.clips = 0
        self.unwritten = 0
        self.dropped: Counter[str] = Counter()
        self._ages = [[0] * (len(MICROSECONDS) + 1) for _ in range(stages)]
        self._ages_us = [0] * stages

    def passed(self, traces: Iterable[Trace]) -> None:
        """A frame has passed stages; behind one that fans out, a stage counts each child."""
        for trace in traces:
            if trace.age_us and trace.stage < len(self._ages):
                self._ages[trace.stage][bisect_left(MICROSECONDS, trace.age_us)] += 1
                self._ages_us[trace.stage] += trace.age_us

    def told(self, connection: Reconnection, dropped: Mapping[str, int]) -> CameraCounts:
        """All of it, as the scheduler is told.

        Args:
            dropped: what has been dropped elsewhere, by reason.
        """
        return CameraCounts(
            camera=self._camera,
            state=connection.state,
            detail=short_name(connection.why),
            since=max(0, round(connection.since * 1e9)),
            last_frame=self.last_frame,
            frames=self.frames,
            sent=self.sent,
            answered=self.answered,
            failed=self.failed,
            dropped=dict(self.dropped + Counter(dropped)),
            reconnects=connection.reconnects,
            copied=self.copied,
            clips=self.clips,
            unwritten=self.unwritten,
            ages=tuple(Spread(tuple(buckets), sum_us) for buckets, sum_us in zip(self._ages, self._ages_us)),
        )
