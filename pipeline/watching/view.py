"""View: what `pipeline top` shows of its frames, and how keys change that. Pure.

    q  quit          c  by CPU           r  by rate           g  as in the graph
    p  pause         m  by memory        w  by what waits     the key of an order once more: as in the graph
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.watching.rates import Frame, Sample, Sort, frame_of

__all__ = ["KEYS", "View"]

_SORTS = {"c": Sort.CPU, "m": Sort.MEMORY, "r": Sort.RATE, "w": Sort.WAITING, "g": Sort.GRAPH}

KEYS = "q quit  p pause  order: c CPU  m memory  r rate  w waiting  g graph"
"""For people."""


class View(NamedTuple):
    """What is shown."""

    sort: Sort = Sort.GRAPH
    paused: bool = False
    over: bool = False
    """The user wants to quit."""
    now: Sample | None = None
    before: Sample | None = None

    def press(self, key: str) -> View:
        """A key was pressed; one that means nothing changes nothing."""
        key = key.lower()
        if key == "q":
            return self._replace(over=True)
        if key in ("p", " "):
            return self._replace(paused=not self.paused)
        if (sort := _SORTS.get(key)) is not None:
            return self._replace(sort=Sort.GRAPH if sort is self.sort else sort)
        return self

    def take(self, sample: Sample) -> View:
        """A new sample has come; while the view is paused, it is not shown."""
        return self if self.paused else self._replace(now=sample, before=self.now)

    def frame(self) -> Frame | None:
        """What is shown now; None: there is no sample yet."""
        return None if self.now is None else frame_of(self.now, self.before, self.sort)
