"""Deaths: how often the worker processes of a stage have died without having been of use. Pure."""

from __future__ import annotations

from collections import deque

from pipeline.graph.plan import Plan
from pipeline.supervisor.exits import Exit

__all__ = ["Deaths"]


class Deaths:
    """The deaths that count, by the first stage of a process."""

    def __init__(self, plan: Plan) -> None:
        self._windows_s = [stage.restart_window_s for stage in plan.stages]
        self._deaths: list[deque[float]] = [deque() for _ in plan.stages]
        self._last_running: list[frozenset[int]] = [frozenset()] * len(plan.stages)
        self._last_finished = [0] * len(plan.stages)

    def add(self, first: int, exit: Exit, outside: bool, now: float) -> int:
        """A worker process whose first stage that is has died: how many deaths count within the stage's window."""
        deaths = self._deaths[first]
        if self._counts_as_failure(first, exit, outside):
            deaths.append(now)
        while deaths and deaths[0] < now - self._windows_s[first]:
            deaths.popleft()
        return len(deaths)

    def forget(self, first: int) -> None:
        """The stage has other code: what the former one did says nothing of it."""
        self._deaths[first].clear()

    def _counts_as_failure(self, first: int, exit: Exit, outside: bool) -> bool:
        """Whether a death brings the process's stages nearer to being given up.

        It does not if the kill came from outside, if the stage has been of use since the last death and a request can
        be blamed for this one, or if the search for a deadly request makes progress: then the deaths end by themselves.
        If the process has several stages, only those that were computing count: another one may not have been of use at
        all.
        """
        running = frozenset(request for requests in exit.running.values() for request in requests)
        before, self._last_running[first] = self._last_running[first], running
        asked = exit.running or exit.finished
        worked = any(exit.finished.get(stage, 0) > self._last_finished[stage] for stage in asked)
        for stage, finished in exit.finished.items():
            self._last_finished[stage] = finished
        if worked:
            self._deaths[first].clear()
        if outside:
            return False
        # Fewer of the same requests, or the last one alone once more.
        return not running or not (worked or running <= before)
