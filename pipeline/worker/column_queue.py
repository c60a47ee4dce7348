"""ColumnQueue: columns that wait in a batcher, oldest first, and which of their rows go next. Pure.

A batch takes what `Candidates` would: all that waits if it fits, otherwise the oldest row, its neighbours, and the next
oldest. So columns that are longer than a batch, or come faster than batches end, are cut, and are columns still:

    wait   | 3 7 1 | 4 9 |        most = 4, the slots of 3 and 4 lie side by side
    batch  | 3 4 7 1 |            stays | 9 |

Rows that do not take the same way cannot be cut so: then `take` gives None, and they are taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.wire.columns import Columns, integers, joined, longs, picked
from pipeline.worker.candidates import NEVER

__all__ = ["ColumnQueue", "Part"]

Part = tuple[int, Columns]
"""Columns, and when they came, in monotonic nanoseconds."""


class ColumnQueue:
    """Columns that wait.

    Args:
        tensors: the numbers of those whose places count; see `pipeline.worker.grouping.place_of`.
        fills: whether the place of what is made counts too.
    """

    __slots__ = ("_count", "_fills", "_parts", "_tensors", "hurry_at")

    def __init__(self, tensors: Sequence[int], fills: bool) -> None:
        self._tensors, self._fills = tuple(tensors), fills
        self._parts: list[Part] = []
        self._count = 0
        #: No deadline makes any row urgent before this time.
        self.hurry_at = NEVER

    def __len__(self) -> int:
        """How many rows wait."""
        return self._count

    @property
    def arrived(self) -> int:
        """When the oldest came, of one at least."""
        return self._parts[0][0]

    def add(self, columns: Columns, now: int) -> None:
        """Take in columns."""
        self._parts.append((now, columns))
        self._count += len(columns)
        if columns.deadlines:
            self.hurry_at = min(self.hurry_at, _latest_start(now, columns))

    def clear(self) -> list[Part]:
        """Let go of all."""
        parts, self._parts, self._count = self._parts, [], 0
        self.hurry_at = NEVER
        return parts

    def take(self, most: int) -> list[Part] | None:
        """Let go of a batch; None: what waits does not fit into one, and does not take the same way."""
        if self._count <= most:
            return self.clear()
        first = self._parts[0][1]
        if len(first) == most and not self._tensors and not self._fills:
            # A common case: what one message brought is a batch.
            taken = [self._parts.pop(0)]
            self._left(most)
            return taken
        whole = joined([columns for _, columns in self._parts])
        if whole is None:
            return None
        chosen = self._chosen(whole, most)
        taken = []
        left: list[Part] = []
        start = 0
        for arrived, columns in self._parts:
            rows = range(start, start + len(columns))
            mine = [row - start for row in rows if row in chosen]
            if len(mine) == len(columns):
                taken.append((arrived, columns))
            elif not mine:
                left.append((arrived, columns))
            else:
                others = [row - start for row in rows if row not in chosen]
                taken.append((arrived, picked(columns, _range_of(mine))))
                left.append((arrived, picked(columns, _range_of(others))))
            start += len(columns)
        self._parts = left
        self._left(most)
        return taken

    def _left(self, count: int) -> None:
        """So many rows have gone, which may be the most urgent ones."""
        self._count -= count
        if self.hurry_at != NEVER:
            urgent = [_latest_start(came, columns) for came, columns in self._parts if columns.deadlines]
            self.hurry_at = min(urgent, default=NEVER)

    def _chosen(self, whole: Columns, most: int) -> set[int]:
        """Which rows go."""
        counted = [integers(column.slots) for column in whole.tensors if column.tensor in self._tensors]
        if self._fills and whole.hops[0].slots:
            counted.append(integers(whole.hops[0].slots))
        if not counted:
            return set(range(most))
        chosen = {0}
        places = list(zip(*counted))
        # Of two rows at one place the younger is found, as in `Candidates`.
        at = {place: row for row, place in enumerate(places)}
        for step in (1, -1):
            place = places[0]
            while len(chosen) < most:
                place = tuple([slot + step for slot in place])
                row = at.get(place)
                if row is None or row in chosen:
                    break
                chosen.add(row)
        row = 0
        while len(chosen) < most:
            chosen.add(row)
            row += 1
        return chosen


def _range_of(rows: list[int]) -> Sequence[int]:
    """The same rows, which rise, as a range if none is left out."""
    whole = range(rows[0], rows[-1] + 1)
    return whole if len(whole) == len(rows) else rows


def _latest_start(arrived: int, columns: Columns) -> int:
    """When one of the rows must start at the latest; see `candidates`."""
    return min([(arrived + deadline) // 2 for deadline in longs(columns.deadlines) if deadline], default=NEVER)
