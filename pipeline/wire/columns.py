"""Columns: the orders of a batch, or what has come of them, side by side instead of one after the other.

What is the same for all rows stands once; what differs is packed, one integer of each row after the other:

    requests      | u64 | u64 | u64 | ...        attempts     | u32 | u32 | u32 | ...
    slots         | u32 | u32 | u32 | ...        generations  | u64 | u64 | u64 | ...
    deadlines     | u64 | u64 | u64 | ...        started      | u64 | u64 | u64 | ...
    a trace       | of a row | of a row | ...    (see `traces`), one such column for each stage that is done

Both ends are on one host, so integers have its byte order. Only common orders travel so (`pipeline.scheduler.lean`);
`pipeline.worker.unpacking` makes the orders of them that they stand for.

Columns of different lengths are no columns: whatever process sends them, the frame is refused like any that is no
message.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.wire.records import Record
from pipeline.wire.traces import TRACE_BYTES

__all__ = ["Columns", "HopColumn", "PassedColumns", "TensorColumn", "integers", "joined", "longs", "picked", "trace_of"]


class HopColumn(Record, frozen=True):
    """One hop of all rows; the fields are those of `Hop`."""

    stage: int
    worker: int
    segment: int
    """0, and no slots: the stage gives no bytes of its own."""
    slots: bytes
    generations: bytes


class TensorColumn(Record, frozen=True):
    """A tensor that is there already, of all rows: a handle's fields."""

    tensor: int
    """Its number."""
    segment: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    slots: bytes
    generations: bytes


class PassedColumns(Record, frozen=True):
    """As `Passed`, of several orders."""

    requests: bytes
    attempts: bytes
    traces: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _check(self.requests, self.attempts, self.traces)

    def __len__(self) -> int:
        return len(self.attempts) // 4


class Columns(Record, frozen=True):
    """As `Order`, of several orders that take the same way."""

    requests: bytes
    attempts: bytes
    labels: tuple[str, ...]
    hops: tuple[HopColumn, ...]
    """The receiver's first."""
    tensors: tuple[TensorColumn, ...]
    """What the hops read and none of them makes."""
    traces: tuple[bytes, ...]
    deadlines: bytes = b""
    """Empty: no row has one; otherwise 0 stands for none."""
    started: bytes = b""
    """As `deadlines`."""
    traceparents: tuple[str, ...] = ()
    """Empty: no row is part of a trace."""

    def __post_init__(self) -> None:
        rows = _check(self.requests, self.attempts, self.traces)
        for told, width in ((self.deadlines, 8), (self.started, 8), (self.traceparents, 1)):
            if told and len(told) != width * rows:
                raise ValueError(f"expected what {rows} rows have, or nothing, found {len(told) // width}")
        if len(self.labels) != rows or not self.hops:
            raise ValueError(f"expected {rows} labels and a hop, found {len(self.labels)} and {len(self.hops)}")
        for hop in self.hops:
            if hop.slots or hop.segment:
                _check_slots(hop.slots, hop.generations, rows)
        for tensor in self.tensors:
            _check_slots(tensor.slots, tensor.generations, rows)

    def __len__(self) -> int:
        return len(self.attempts) // 4


def _check(requests: bytes, attempts: bytes, traces: Sequence[bytes]) -> int:
    """How many rows there are.

    Raises:
        ValueError: the columns are not of one length, or of none.
    """
    rows = len(attempts) // 4
    if not rows or len(attempts) != 4 * rows or len(requests) != 8 * rows:
        raise ValueError(f"expected columns of one length, found {len(requests)} and {len(attempts)} bytes")
    for trace in traces:
        if len(trace) != TRACE_BYTES * rows:
            raise ValueError(f"expected {TRACE_BYTES * rows} bytes of traces, found {len(trace)}")
    return rows


def _check_slots(slots: bytes, generations: bytes, rows: int) -> None:
    if len(slots) != 4 * rows or len(generations) != 8 * rows:
        raise ValueError(f"expected slots of {rows} rows, found {len(slots)} and {len(generations)} bytes")


def integers(column: bytes) -> list[int]:
    """The integers of 32 bits in a column."""
    return memoryview(column).cast("I").tolist()


def longs(column: bytes) -> list[int]:
    """The integers of 64 bits in a column."""
    return memoryview(column).cast("Q").tolist()


def trace_of(traces: Sequence[bytes], row: int) -> bytes:
    """All traces of one row."""
    start, end = row * TRACE_BYTES, (row + 1) * TRACE_BYTES
    return traces[0][start:end] if len(traces) == 1 else b"".join([column[start:end] for column in traces])


def joined(parts: Sequence[Columns]) -> Columns | None:
    """All rows of several columns, in their order; None if these do not take the same way."""
    first = parts[0]
    if len(parts) == 1:
        return first
    kind = _kind(first)
    for part in parts:
        if _kind(part) != kind:
            return None
    return Columns(
        b"".join([part.requests for part in parts]),
        b"".join([part.attempts for part in parts]),
        # Of a list: a tuple of an iterator is made with ten places and cut, and once it is free, Python keeps it for
        # others of its new length, of which it would have ever more.
        tuple([label for part in parts for label in part.labels]),
        tuple(
            [
                HopColumn(
                    hop.stage,
                    hop.worker,
                    hop.segment,
                    b"".join([part.hops[at].slots for part in parts]),
                    b"".join([part.hops[at].generations for part in parts]),
                )
                for at, hop in enumerate(first.hops)
            ]
        ),
        tuple(
            [
                TensorColumn(
                    *_place(tensor),
                    b"".join([part.tensors[at].slots for part in parts]),
                    b"".join([part.tensors[at].generations for part in parts]),
                )
                for at, tensor in enumerate(first.tensors)
            ]
        ),
        tuple([b"".join([part.traces[at] for part in parts]) for at in range(len(first.traces))]),
        _joined([part.deadlines for part in parts], parts),
        _joined([part.started for part in parts], parts),
        _traceparents(parts),
    )


def _joined(columns: Sequence[bytes], parts: Sequence[Columns]) -> bytes:
    """A column of 64 bits that parts may lack, of all their rows."""
    if not any(columns):
        return b""
    return b"".join([column or bytes(8 * len(part)) for column, part in zip(columns, parts)])


def _traceparents(parts: Sequence[Columns]) -> tuple[str, ...]:
    if not any(part.traceparents for part in parts):
        return ()
    return tuple([one for part in parts for one in part.traceparents or ("",) * len(part)])


def picked(columns: Columns, rows: Sequence[int]) -> Columns:
    """Some of the rows, or all, in another order; a `range` is the quickest."""
    return Columns(
        _picked(columns.requests, rows, 8),
        _picked(columns.attempts, rows, 4),
        tuple([columns.labels[row] for row in rows]),
        tuple(
            [
                HopColumn(h.stage, h.worker, h.segment, _picked(h.slots, rows, 4), _picked(h.generations, rows, 8))
                for h in columns.hops
            ]
        ),
        tuple(
            [
                TensorColumn(*_place(t), _picked(t.slots, rows, 4), _picked(t.generations, rows, 8))
                for t in columns.tensors
            ]
        ),
        tuple([_picked(trace, rows, TRACE_BYTES) for trace in columns.traces]),
        _picked(columns.deadlines, rows, 8),
        _picked(columns.started, rows, 8),
        tuple([columns.traceparents[row] for row in rows]) if columns.traceparents else (),
    )


def _picked(column: bytes, rows: Sequence[int], width: int) -> bytes:
    if isinstance(rows, range) and rows.step == 1:
        return column[rows.start * width : rows.stop * width]
    return b"".join([column[row * width : (row + 1) * width] for row in rows]) if column else b""


def _kind(columns: Columns) -> tuple[object, ...]:
    """What all rows have in common."""
    hops = tuple([(hop.stage, hop.worker, hop.segment) for hop in columns.hops])
    return hops, tuple([_place(tensor) for tensor in columns.tensors]), len(columns.traces)


def _place(tensor: TensorColumn) -> tuple[int, int, int, str, tuple[int, ...]]:
    return tensor.tensor, tensor.segment, tensor.offset, tensor.dtype, tensor.shape
