"""Traces: what the stages did with a request, packed: no process between a worker and the client takes it apart.

    0        2         6           10       14           22       26         34
    +--------+---------+-----------+--------+------------+--------+----------+
    | stage  | queue_us| compute_us| batch  | copied     | age_us | began    |   little-endian; then the next stage
    +--------+---------+-----------+--------+------------+--------+----------+
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pipeline.wire.records import Trace

__all__ = ["COMPUTE_US", "TRACE_BYTES", "packed", "parts_of", "traces_in"]

_TRACE = struct.Struct("<HIIIQIQ")

TRACE_BYTES = _TRACE.size

COMPUTE_US = struct.Struct("<6xI")
"""Of a trace what the batch took, alone."""

#: The longest time that is told: 71 minutes.
_MOST_US = (1 << 32) - 1


def packed(trace: Trace) -> bytes:
    """One trace. Times above 71 minutes are told as that."""
    stage, queue_us, compute_us, batch, copied, age_us, began = trace
    return _TRACE.pack(stage, _told(queue_us), _told(compute_us), batch, copied, _told(age_us), began)


def _told(us: int) -> int:
    return min(max(us, 0), _MOST_US)


def parts_of(traces: bytes) -> Iterator[tuple[int, bytes]]:
    """Each trace as it is packed, with its stage."""
    for start in range(0, len(traces) - TRACE_BYTES + 1, TRACE_BYTES):
        yield traces[start] | traces[start + 1] << 8, traces[start : start + TRACE_BYTES]


def traces_in(traces: bytes) -> list[Trace]:
    """Every trace, in order."""
    return [Trace(*_TRACE.unpack(part)) for _, part in parts_of(traces)]
