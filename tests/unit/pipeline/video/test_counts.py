"""What a source tells of its camera."""

from __future__ import annotations

from pipeline.metrics.buckets import SECONDS
from pipeline.video.counts import Counts
from pipeline.video.reconnection import Reconnection
from pipeline.wire.camera import Drop, State
from pipeline.wire.records import Trace


def test_ages_are_counted_by_stage_and_drops_of_both_places_are_added() -> None:
    counts = Counts("door", 2)
    counts.frames, counts.sent, counts.answered, counts.last_frame = 9, 4, 3, 77
    counts.dropped[Drop.RATE] += 2
    counts.passed([Trace(0, 1, 2, 1, 0, 30_000), Trace(1, 1, 2, 1, 0, 60_000)])
    # Of a request that does not say when it began, and of no stage of this pipeline.
    counts.passed([Trace(0, 1, 2, 1, 0, 0), Trace(7, 1, 2, 1, 0, 5)])
    connection = Reconnection(10.0, lambda: 0.0, 1.5)
    connection.failed("x" * 500, 2.0)
    told = counts.told(connection, {Drop.RATE: 1, Drop.OLDER: 5})
    assert (told.camera, told.state, told.since) == ("door", State.RECONNECTING, 2_000_000_000)
    assert len(told.detail) == 200
    assert (told.frames, told.sent, told.answered, told.last_frame) == (9, 4, 3, 77)
    assert told.dropped == {Drop.RATE: 3, Drop.OLDER: 5}
    assert [spread.sum_us for spread in told.ages] == [30_000, 60_000]
    assert [spread.buckets.index(1) for spread in told.ages] == [SECONDS.index(0.05), SECONDS.index(0.1)]
