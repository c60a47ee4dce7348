"""Open events: those of one camera that go on, by the answers to its frames. Pure.

What `stages.video.track` keeps of a camera is gone if its worker dies: the next answers are of another stream, and
never mention what was open. Code that must know when an event ends (a recording, a message to others) reads the events
here, where each one that has begun ends once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Event", "OpenEvents", "best_shown"]

Event = Mapping[str, Any]


class OpenEvents:
    """The events of one camera that go on."""

    def __init__(self) -> None:
        self._stream: int | None = None
        self._time = 0.0
        self._open: dict[str, Event] = {}

    @property
    def open(self) -> Mapping[str, Event]:
        """The events that go on, as they were told last, by their ids."""
        return self._open

    def take(self, document: Mapping[str, Any]) -> list[Event]:
        """Take the answer to a frame.

        Args:
            document: as `stages.video.track` gives it; answers in the order of their frames.

        Returns:
            Its events, and before them an end for each that was open in a stream that is over.
        """
        told: list[Event] = []
        if document["stream"] != self._stream:
            # Some may be told as ended by the stage itself, now or later, if its worker has lived on.
            mentioned = {event["id"] for event in document["events"]}
            told += [self._ended(event) for id, event in self._open.items() if id not in mentioned]
            self._open = {id: event for id, event in self._open.items() if id in mentioned}
            self._stream = document["stream"]
        self._time = document["time"]
        for event in document["events"]:
            if event["state"] == "begin":
                self._open[event["id"]] = event
            elif event["rule"] != "leave":
                # `leave` is told once, as an end that nothing has begun.
                if event["id"] not in self._open:
                    continue
                self._open[event["id"]] = event
                if event["state"] == "end":
                    del self._open[event["id"]]
            told.append(event)
        return told

    def _ended(self, event: Event) -> Event:
        end = max(self._time, event["start"])
        return {**event, "state": "end", "end": end, "duration": round(end - event["start"], 3), "reason": "stream"}


def best_shown(events: Iterable[Event], document: Mapping[str, Any]) -> list[Event]:
    """Those of these events whose thing no frame has shown better than that of the document."""
    # By both: the numbers of another stream begin anew.
    this = document["sequence"], document["time"]
    return [one for one in events if one["best"] and (one["best"]["sequence"], one["best"]["time"]) == this]
