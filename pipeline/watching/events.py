"""Events: those that a run's cameras have had, as lines for people. Pure.

    14:02:11  door  person enters porch
    14:02:31  door  person has been in porch for 20 s
    14:02:40  door  person has left porch, after 29 s
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from pipeline.watching.rates import age_text

__all__ = ["line_of"]

_BEGINS = {
    "object": "{what} appears",
    "enter": "{what} enters {where}",
    "loiter": "{what} has been in {where} for {duration}",
    "count": "{count} things in {where}",
}
_ENDS = {
    "object": "{what} is gone, after {duration}",
    "enter": "{what} has left {where}, after {duration}",
    "loiter": "{what} is no longer in {where}, after {duration}",
    "count": "{count} things in {where}, no longer too many, after {duration}",
    "leave": "{what} has left {where}, after {duration}",
}
_GONE = "{what} was last seen in {where}, after {duration}"
_OTHER = "{rule}: {what} in {where}"


def line_of(event: Mapping[str, Any], width: int = 0, zone: tzinfo | None = None) -> str | None:
    """A line about an event, or None: it goes on, and nothing is said of that.

    Args:
        event: as docs/edge-events.md has it, and `camera` and `time`, that of the frame that tells it.
        width: of the longest name of a camera.
        zone: of the clock; None: the system's.
    """
    state, rule = event["state"], event["rule"]
    if state not in ("begin", "end"):
        return None
    text = (_BEGINS if state == "begin" else _ENDS).get(rule)
    if text is None:
        text = _OTHER + (" begins" if state == "begin" else " ends, after {duration}")
    elif rule == "enter" and event.get("reason") == "gone":
        text = _GONE
    said = text.format(
        rule=rule,
        what=event["label"] or "something",
        where=event["zone"] or "the picture",
        count=event.get("count"),
        duration=_length(event["duration"]),
    )
    if event.get("reason") == "stream":
        said += " (the stream was broken)"
    at = datetime.fromtimestamp(event["time"], timezone.utc).astimezone(zone)
    return f"{at:%H:%M:%S}  {event['camera']:{width}}  {said}"


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else age_text(round(seconds))
