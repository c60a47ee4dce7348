"""Flight recorder: which requests a worker is computing right now, where its death cannot erase it.

    slot of the worker in the run's recorder segment
    0        8        16       24       32                         32 + 8 * MAX_ROWS
    +--------+--------+--------+--------+--------+-------- ... ----+
    | since  | done   | count  | row    | request|                 |   unsigned 64-bit, native order
    +--------+--------+--------+--------+--------+-------- ... ----+

`since` is the monotonic time at which the batch began, in nanoseconds, and 0 before the first one. It is written last,
so that a reader finds the requests there. Once the batch is over, its highest bit is set: the requests stay, since what
they have broken may kill the worker a moment later.
`done` counts the batches that this worker has finished. If several batches are in flight, the requests are those of all
of them, the oldest batch first, and `since` is when the oldest began. `row` is 0, or, of a request of several rows that
are computed one by one, the number of the row from 1 on.

The worker writes its own slot before and after `process`; the supervisor reads it when the worker
is dead (who is suspect?) and while it lives (does it overrun its time?).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

__all__ = ["MAX_ROWS", "RECORD_BYTES", "Recorder"]

MAX_ROWS = 508
"""Requests of a batch that are recorded; later rows of a larger batch are not suspected."""

RECORD_BYTES = 4096

_OVER = 1 << 63


class Recorder:
    """One worker's record, over a memoryview of its slot (at least RECORD_BYTES)."""

    def __init__(self, slot: memoryview) -> None:
        self._words = slot[:RECORD_BYTES].cast("B").cast("Q")

    def begin(self, requests: Sequence[int], now: int) -> None:
        """A batch begins."""
        words = self._words
        kept = array("Q", requests[:MAX_ROWS])
        words[4 : 4 + len(kept)] = kept
        words[3] = 0
        words[2] = len(kept)
        words[0] = now

    def piece(self, row: int, since: int) -> None:
        """Another part of the requests that were recorded is computed.

        Args:
            row: the one row of it; -1: it is of several.
            since: when the oldest batch, or its part, began.
        """
        self._words[3] = row + 1
        self._words[0] = since

    def end(self, rest: Sequence[int] = (), since: int = 0) -> None:
        """A batch is over.

        Args:
            rest: requests of the batches that still run beside it.
            since: when the oldest of those began.
        """
        words = self._words
        if rest:
            # Overwritten in place and one by one, for they only move to the front: at every moment the recorded
            # requests include those that still run.
            count = min(len(rest), MAX_ROWS)
            for index in range(count):
                words[4 + index] = rest[index]
            words[3] = 0
            words[2] = count
            words[0] = since
        else:
            words[0] |= _OVER
        words[1] += 1

    def clear(self) -> None:
        """Clear the record, for a new worker that takes it over."""
        self._words[0] = self._words[1] = 0

    @property
    def since(self) -> int:
        """When the running batch began; 0: none runs."""
        since = self._words[0]
        return 0 if since & _OVER else since

    @property
    def last_began(self) -> int:
        """When the last batch began that is over; 0: there was none, or one runs."""
        since = self._words[0]
        return since ^ _OVER if since & _OVER else 0

    @property
    def running(self) -> tuple[int, ...]:
        """The requests of the running batch."""
        return self._requests() if self.since else ()

    @property
    def last(self) -> tuple[int, ...]:
        """The requests of the last batch that is over, if none runs."""
        return self._requests() if self.last_began else ()

    def _requests(self) -> tuple[int, ...]:
        return tuple(self._words[4 : 4 + min(self._words[2], MAX_ROWS)])

    @property
    def row(self) -> int:
        """The row of the running request that is computed alone; -1: none is, or that is not known."""
        return self._words[3] - 1 if self.since else -1

    @property
    def done(self) -> int:
        """Batches that this worker has finished."""
        return self._words[1]

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
