"""Cameras: what the sources have told of their cameras, and whether they are there. Pure.

    CameraReport of a client ─▶ the last word on that camera
    another client reports it ─▶ its source was started again: what the last one had counted is added to the sums
    the client has gone       ─▶ no source; the time of its last frame stays

So counts only grow while the scheduler lives, and "last frame" is the camera's and not its process's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.metrics.buckets import SECONDS
from pipeline.scheduler.tally import are_counts
from pipeline.wire.camera import DROPS, STATES, CameraCounts, State
from pipeline.wire.labels import LONGEST_NAME
from pipeline.wire.status import CameraStatus, FrameAgeStatus, HistogramStatus

__all__ = ["Cameras"]

_COUNTS = ("frames", "sent", "answered", "failed", "reconnects", "copied", "clips", "unwritten")
_BUCKETS = len(SECONDS) + 1


class _Sums:
    """What sources have counted of one camera, added up."""

    def __init__(self, stages: int) -> None:
        self.counts = Counter(dict.fromkeys(_COUNTS, 0))
        self.dropped: Counter[str] = Counter()
        self.ages = [[0] * _BUCKETS for _ in range(stages)]
        self.ages_us = [0] * stages

    def copy(self) -> _Sums:
        """The same sums, to add more to."""
        same = _Sums(len(self.ages))
        same.counts.update(self.counts)
        same.dropped.update(self.dropped)
        same.ages = [list(buckets) for buckets in self.ages]
        same.ages_us = list(self.ages_us)
        return same

    def add(self, counts: CameraCounts) -> None:
        self.counts.update({name: getattr(counts, name) for name in _COUNTS})
        self.dropped.update(counts.dropped)
        for at, spread in enumerate(counts.ages):
            self.ages_us[at] += spread.sum_us
            for bucket, count in enumerate(spread.buckets):
                self.ages[at][bucket] += count


class _Camera:
    """One camera, over all processes that were its source."""

    def __init__(self, stages: int) -> None:
        #: The client that reports it; None: it has gone, or none has come yet.
        self.client: int | None = None
        self.counts: CameraCounts | None = None
        self.gone_at = 0
        self._before = _Sums(stages)
        self.last_frame = 0

    def report(self, client: int, counts: CameraCounts) -> None:
        before = self.counts
        # Also of the same client, if it counts from zero again.
        if before is not None and (client != self.client or counts.frames < before.frames):
            self._before.add(before)
        self.client, self.counts = client, counts
        self.last_frame = max(self.last_frame, counts.last_frame)

    def status(self, name: str, stages: Sequence[str], now: int) -> CameraStatus:
        sums = self._before.copy()
        state, detail, since = State.NO_SOURCE, "", self.gone_at
        if self.counts is not None:
            sums.add(self.counts)
            if self.client is not None:
                state, detail, since = self.counts.state, self.counts.detail, self.counts.since
        return CameraStatus(
            name=name,
            state=state,
            detail=detail,
            state_s=max(0, now - since) / 1e9 if since else None,
            last_frame_s=max(0, now - self.last_frame) / 1e9 if self.last_frame else None,
            dropped=dict(sums.dropped),
            ages=tuple(
                [
                    FrameAgeStatus(stage, HistogramStatus(tuple(buckets), sum_us / 1e6))
                    for stage, buckets, sum_us in zip(stages, sums.ages, sums.ages_us)
                ]
            ),
            **sums.counts,
        )


class Cameras:
    """All cameras of the plan.

    Args:
        names: of the cameras.
        stages: the names of the plan's stages.
    """

    def __init__(self, names: Sequence[str], stages: Sequence[str]) -> None:
        self._stages = tuple(stages)
        self._cameras = {name: _Camera(len(stages)) for name in names}

    def report(self, client: int, counts: CameraCounts) -> bool:
        """A client tells of its camera; False: it is no camera of the plan, or what it says cannot be."""
        camera = self._cameras.get(counts.camera)
        if camera is None or not self._is_sound(counts):
            return False
        camera.report(client, counts)
        return True

    def client_gone(self, client: int, now: int) -> None:
        """A client is not there any more."""
        for camera in self._cameras.values():
            if camera.client == client:
                camera.client, camera.gone_at = None, now

    def status(self, now: int) -> tuple[CameraStatus, ...]:
        """Each camera, in the order of the plan."""
        return tuple([camera.status(name, self._stages, now) for name, camera in self._cameras.items()])

    def _is_sound(self, counts: CameraCounts) -> bool:
        numbers = [*(getattr(counts, name) for name in _COUNTS), *counts.dropped.values()]
        for spread in counts.ages:
            numbers += (spread.sum_us, *spread.buckets)
        return (
            counts.state in STATES
            and len(counts.detail) <= LONGEST_NAME
            and counts.dropped.keys() <= DROPS.keys()
            and len(counts.ages) in (0, len(self._stages))
            and all(len(spread.buckets) in (0, _BUCKETS) for spread in counts.ages)
            and are_counts(numbers)
            and min(counts.since, counts.last_frame) >= 0
        )
