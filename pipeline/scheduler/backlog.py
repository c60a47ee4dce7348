"""Backlog: the requests that wait for one stage, in the order they will be served.

Pure; used by the scheduler only. What waits here can still be reordered, refused or expired; what
has been ordered from a worker cannot.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.scheduler.ledger import Request

__all__ = ["AGING_NS", "LOWEST_PRIORITY", "Backlog"]

LOWEST_PRIORITY = 9

AGING_NS = 100_000_000
"""A request of priority p is served as if it had come p x 100 ms later: a higher priority overtakes,
and whoever has waited that much longer is not overtaken any more, so nobody starves."""


class Backlog:
    """First come, first served within a priority; aged between priorities."""

    __slots__ = ("_lanes", "_size")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Request]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, request: Request) -> None:
        """Queue behind its equals."""
        self._lane(request.priority).append(request)
        self._size += 1

    def push_front(self, request: Request) -> None:
        """Queue before its equals: it has waited its turn already and runs again."""
        self._lane(request.priority).appendleft(request)
        self._size += 1

    def pop(self) -> Request:
        """The next to serve.

        Raises:
            IndexError: nobody waits.
        """
        lanes = self._lanes
        if len(lanes) == 1:
            (lane,) = lanes.values()
        else:
            waiting = [(lane[0].submitted + AGING_NS * priority, priority) for priority, lane in lanes.items() if lane]
            if not waiting:
                raise IndexError("nobody waits")
            lane = lanes[min(waiting)[1]]
        request = lane.popleft()
        self._size -= 1
        return request

    def remove(self, request: Request) -> bool:
        """Take one out wherever it stands; False where it is not here."""
        lane = self._lanes.get(request.priority)
        if lane is None or request not in lane:
            return False
        lane.remove(request)
        self._size -= 1
        return True

    def _lane(self, priority: int) -> deque[Request]:
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
        return lane
