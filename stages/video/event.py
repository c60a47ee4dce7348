"""Event: what is told of one thing that happens in a camera's picture. Values. Pure.

Times are in seconds since 1970, boxes y_min, x_min, y_max, x_max in fractions of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["BROKEN", "GONE", "OVER", "Best", "Box", "Event", "Report", "rounded"]

Box = tuple[float, float, float, float]

OVER, GONE, BROKEN = "over", "gone", "stream"
"""What ended an event: it is no longer so; the thing is not seen any more; the stream of frames is another one."""

_EDGE, _CUT_OFF = 0.002, 0.2
"""A box that comes so near to an edge of the picture is cut off by it; what that costs of a picture's worth."""


def rounded(box: Box) -> list[float]:
    """A box as it is told: to a ten-thousandth of the picture."""
    return [round(side, 4) for side in box]


class Best(NamedTuple):
    """The frame in which a thing is seen best."""

    time: float
    sequence: int
    """The number of the frame's request in its stream."""
    score: float
    box: Box

    @property
    def worth(self) -> float:
        """How good the picture is: of a large thing that the detector is sure of, and that no edge cuts off."""
        y_min, x_min, y_max, x_max = self.box
        size: float = ((y_max - y_min) * (x_max - x_min)) ** 0.5
        cut = min(y_min, x_min, 1 - y_max, 1 - x_max) <= _EDGE
        return self.score + size / 2 - (_CUT_OFF if cut else 0.0)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "time": round(self.time, 3),
            "sequence": self.sequence,
            "score": round(self.score, 3),
            "box": rounded(self.box),
        }


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    id: str
    rule: str
    """object, enter, leave, loiter or count."""
    start: float
    label: str | None = None
    """The kind of the thing; None: it is about several."""
    track: int | None = None
    """The number of the thing's track; None: it is about several."""
    zone: str = ""
    """The zone of its rule; empty: the whole picture."""
    zones: Sequence[str] = ()
    """Those that the thing has been in, in the order in which it came to them."""
    end: float | None = None
    """None: it goes on."""
    score: float = 0.0
    """The detector's highest for the thing."""
    box: Box | None = None
    """Where the thing was last."""
    best: Best | None = None
    count: int | None = None
    """How many things there are, if it is about several."""
    reason: str | None = None
    """What ended it: over, gone or stream."""

    def document(self, camera: str, now: float) -> dict[str, Any]:
        """As JSON."""
        until = now if self.end is None else self.end
        return {
            "id": self.id,
            "camera": camera,
            "rule": self.rule,
            "label": self.label,
            "track": self.track,
            "zone": self.zone,
            "zones": list(self.zones),
            "start": round(self.start, 3),
            "end": None if self.end is None else round(self.end, 3),
            "duration": round(max(until - self.start, 0.0), 3),
            "score": round(self.score, 3),
            "box": None if self.box is None else rounded(self.box),
            "best": None if self.best is None else self.best.document(),
            "count": self.count,
            "reason": self.reason,
        }


class Report(NamedTuple):
    """What one frame changed about an event."""

    state: str
    """begin, update or end."""
    event: Event
