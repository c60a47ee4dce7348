"""Backlog: the requests that wait for one stage, in the order they will be served.

Pure; used by the scheduler only. What waits here can still be reordered, refused or expired; what
has been ordered from a worker cannot.

The children of one request share one place in the row, however many they are. When as many of them have been
served as a batch has room for, the others go to the end of the row:

    row     [page 1: 40 children] [page 2: 2 children] [page 3: 1 child]
    served  4 of page 1, 2 of page 2, 1 of page 3, 4 of page 1, 4 of page 1, ...
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.scheduler.ledger import Request

__all__ = ["AGING_NS", "Backlog", "due"]

AGING_NS = 100_000_000
"""A request of priority p is served as if it had come p x 100 ms later: a higher priority overtakes, but
not a request that has waited that much longer, so every request is served in the end."""


def due(request: Request) -> int:
    """A number for the turn of a request: of two requests, the one with the smaller number is served first."""
    return request.submitted + AGING_NS * request.priority


class _Siblings:
    """The waiting children of one request."""

    __slots__ = ("children", "root", "served", "submitted")

    def __init__(self, root: int, submitted: int) -> None:
        self.root = root
        self.submitted = submitted
        self.children: deque[Request] = deque()
        #: How many of them were served in this turn.
        self.served = 0


class Backlog:
    """First come, first served within a priority; aged between priorities; in turn among children.

    Args:
        quantum: how many children of one request are served before the next request has its turn.
    """

    __slots__ = ("_lanes", "_quantum", "_siblings", "_size")

    def __init__(self, quantum: int = 1) -> None:
        self._quantum = quantum
        self._lanes: dict[int, deque[Request | _Siblings]] = {}
        self._siblings: dict[int, _Siblings] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        # Compiled, `if backlog` takes an empty `Backlog | None` for true if the class has only `__len__`.
        return self._size > 0

    def push(self, request: Request) -> None:
        """Queue behind its equals."""
        self._size += 1
        if request.parent is None:
            self._lane(request.priority).append(request)
        elif (siblings := self._siblings.get(request.root.id)) is not None:
            siblings.children.append(request)
        else:
            self._lane(request.priority).append(self._family(request))

    def push_front(self, request: Request) -> None:
        """Queue before its equals: it has waited its turn already and runs again."""
        self._size += 1
        if request.parent is None:
            self._lane(request.priority).appendleft(request)
        elif (siblings := self._siblings.get(request.root.id)) is not None:
            siblings.children.appendleft(request)
        else:
            self._lane(request.priority).appendleft(self._family(request))

    def pop(self) -> Request:
        """Take out the next request to serve.

        Raises:
            IndexError: no request waits.
        """
        lane = self._first()
        head = lane.popleft()
        self._size -= 1
        if not isinstance(head, _Siblings):
            return head
        child = head.children.popleft()
        head.served += 1
        if not head.children:
            del self._siblings[head.root]
        elif head.served < self._quantum:
            lane.appendleft(head)
        else:
            head.served = 0
            lane.append(head)
        return child

    def peek(self) -> Request:
        """The request that `pop` would return.

        Raises:
            IndexError: no request waits.
        """
        head = self._first()[0]
        return head.children[0] if isinstance(head, _Siblings) else head

    def remove(self, request: Request) -> bool:
        """Take a request out wherever it stands; False if it is not here."""
        lane = self._lanes.get(request.priority)
        if request.parent is None:
            if lane is None or request not in lane:
                return False
            lane.remove(request)
        else:
            siblings = self._siblings.get(request.root.id)
            if lane is None or siblings is None or request not in siblings.children:
                return False
            siblings.children.remove(request)
            if not siblings.children:
                del self._siblings[siblings.root]
                lane.remove(siblings)
        self._size -= 1
        return True

    def _first(self) -> deque[Request | _Siblings]:
        """The lane whose turn it is."""
        lanes = self._lanes
        if len(lanes) == 1:
            (lane,) = lanes.values()
            return lane
        waiting = [(lane[0].submitted + AGING_NS * priority, priority) for priority, lane in lanes.items() if lane]
        if not waiting:
            raise IndexError("no request waits")
        return lanes[min(waiting)[1]]

    def _family(self, request: Request) -> _Siblings:
        """A place in the row for the first child of a request that waits."""
        siblings = self._siblings[request.root.id] = _Siblings(request.root.id, request.submitted)
        siblings.children.append(request)
        return siblings

    def _lane(self, priority: int) -> deque[Request | _Siblings]:
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
        return lane
