"""Memory: what the processes of a run take, by kind, and how fast each of them grows.

    heap      what malloc has in the part that grows upwards
    mapped    the process's other own pages: Python's arenas, those of malloc's other threads, large blocks, and the
              pages of libraries that it has written to
    shared    the pages of segments that it has touched: at most the segment, so it is no growth

The own pages of a process are counted, and not its proportional share (PSS) of what it shares with others: that changes
by tens of MiB when other programs of the machine, with the same Python, come and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import linear_regression
from typing import NamedTuple

import psutil

__all__ = ["Growth", "Memory", "growth_lines", "memory_by_kind", "memory_growth", "memory_of"]

_MEGABYTE = 2**20
_SHARED = ("/dev/shm/", "/memfd:", "/SYSV")


class Memory(NamedTuple):
    """Of one process, in bytes."""

    heap: int
    mapped: int
    shared: int

    @property
    def own(self) -> int:
        """What would come free if the process ended."""
        return self.heap + self.mapped


class Growth(NamedTuple):
    """Of one process, in bytes each second."""

    heap: float
    mapped: float
    shared: float

    @property
    def own(self) -> float:
        """Of the process's own pages."""
        return self.heap + self.mapped


def memory_of(process: psutil.Process) -> Memory:
    """What a process takes now.

    Raises:
        psutil.Error: it is gone, or another user's.
    """
    return memory_by_kind((area.path, area.anonymous, area.rss) for area in process.memory_maps())


def memory_by_kind(areas: Iterable[tuple[str, int, int]]) -> Memory:
    """What mapped areas come to.

    Args:
        areas: (path, bytes of the process's own pages, bytes of all pages that it has touched).
    """
    heap = mapped = shared = 0
    for path, own, touched in areas:
        if path.startswith(_SHARED):
            shared += touched
        elif path == "[heap]":
            heap += own
        else:
            mapped += own
    return Memory(heap, mapped, shared)


def memory_growth(samples: Sequence[tuple[float, float]]) -> float:
    """How fast memory grew after the first third of the time, by the line that fits best.

    Args:
        samples: (seconds, bytes), at least two of different times.

    Returns:
        Bytes each second.
    """
    first, last = samples[0][0], samples[-1][0]
    late = [(at, nbytes) for at, nbytes in samples if at >= first + (last - first) / 3]
    return linear_regression(*zip(*(late if len(late) > 1 else samples))).slope


def growth_lines(samples: Mapping[str, Sequence[tuple[float, Memory]]]) -> list[str]:
    """What the memory of a run came to: a line for all of it, and one for each process, the fastest first.

    Args:
        samples: by process, (seconds, memory) at least twice. One that has died meanwhile is not in it.
    """
    growths = {
        title: Growth(*[memory_growth([(at, kind) for (at, _), kind in zip(seen, kinds)]) for kinds in _by_kind(seen)])
        for title, seen in samples.items()
    }
    begun, ended = (sum(seen[at][1].own for seen in samples.values()) for at in (0, -1))
    took = max(seen[-1][0] - seen[0][0] for seen in samples.values())
    total = sum(growth.own for growth in growths.values())
    lines = [
        f"own memory: {begun / _MEGABYTE:.1f} MiB, after {took:.0f} s {ended / _MEGABYTE:.1f} MiB; "
        f"after the first third {_hourly(total)} MiB/hour"
    ]
    for title, growth in sorted(growths.items(), key=lambda one: one[1].own, reverse=True):
        lines.append(
            f"  {title}: {samples[title][-1][1].own / _MEGABYTE:.1f} MiB, {_hourly(growth.own)} MiB/hour "
            f"(heap {_hourly(growth.heap)}, mapped {_hourly(growth.mapped)}; shared {_hourly(growth.shared)})"
        )
    return lines


def _by_kind(seen: Sequence[tuple[float, Memory]]) -> list[tuple[int, ...]]:
    return list(zip(*[memory for _, memory in seen]))


def _hourly(bytes_each_second: float) -> str:
    return f"{bytes_each_second * 3600 / _MEGABYTE:+.1f}"
