"""What the stages did with a request, packed."""

from __future__ import annotations

from pipeline.wire.messages import Trace
from pipeline.wire.traces import TRACE_BYTES, packed, parts_of, traces_in

ONE, OTHER = Trace(0, 12, 345, 8, 1 << 40, 77, 1 << 50), Trace(300, 0, 4_000_000_000, 1, 0)


def test_traces_are_packed_one_after_the_other() -> None:
    assert traces_in(packed(ONE) + packed(OTHER)) == [ONE, OTHER]
    assert list(parts_of(packed(OTHER) + packed(ONE))) == [(300, packed(OTHER)), (0, packed(ONE))]
    assert traces_in(b"") == []


def test_a_time_that_has_no_room_is_the_longest_there_is() -> None:
    (trace,) = traces_in(packed(Trace(1, -5, 1 << 40, 1, 0)))
    assert (trace.queue_us, trace.compute_us) == (0, (1 << 32) - 1)


def test_what_is_too_short_for_a_trace_is_none() -> None:
    assert traces_in(packed(ONE)[: TRACE_BYTES - 1]) == []
    assert traces_in(packed(ONE) + b"x") == [ONE]
