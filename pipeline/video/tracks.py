"""Tracks: what the answers to a camera's frames tell of its things, read once for all observers. Pure.

    outputs ──document_in──▶ document ──OpenEvents──▶ Told: the document, and the events of this frame
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.video.open_events import Event, OpenEvents

__all__ = ["Told", "Tracks", "document_in"]

_FIELDS = {"stream", "sequence", "time", "events"}
_EVENT_FIELDS = {"id", "state", "rule", "zone", "label", "start", "end", "duration", "best"}
_BEST_FIELDS = {"sequence", "time"}
_NUMBER = (int, float)


class Told(NamedTuple):
    """What the answer to one frame tells."""

    document: Mapping[str, Any] | None = None
    """As docs/edge-events.md has it; None: the answer has none."""
    events: Sequence[Event] = ()
    """Those of the document, and before them the ends of those that another stream has left open (`OpenEvents`)."""
    wrong: str = ""
    """Why the document is not as docs/edge-events.md has it: then it tells no events, but may have tracks."""


class Tracks:
    """Those of one camera.

    Args:
        output: the pipeline's output that tells them; empty: it must be looked for. See `tracking.output_in`.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._events = OpenEvents()

    def take(self, outputs: Mapping[str, Any]) -> Told:
        """Take an answer; answers in the order of their frames."""
        found = document_in(outputs, self._output)
        if found is None:
            return Told()
        if why := _wrong_in(found):
            output = f"output {self._output}" if self._output else "output with tracks and events"
            return Told(found if isinstance(found, Mapping) else None, wrong=f"the {output} has {why}")
        return Told(found, self._events.take(found))


def document_in(outputs: Mapping[str, Any], name: str) -> Any:
    """The answer's document of tracks and events, which is not looked into; None: it has none.

    Args:
        name: of the output; empty: whichever has the fields of such a document.
    """
    if name:
        # A stage that was skipped has no output.
        return outputs.get(name)
    for value in outputs.values():
        if isinstance(value, dict) and value.keys() >= {*_FIELDS, "tracks"}:
            return value
    return None


def _wrong_in(found: Any) -> str:
    """What it lacks of what all observers rely on; empty: nothing."""
    if not isinstance(found, dict) or not found.keys() >= _FIELDS:
        return f"no {', '.join(sorted(_FIELDS))}, as that of stages.video.track has"
    if not isinstance(found["time"], _NUMBER) or not isinstance(found["events"], list):
        return "another time than a number, or other events than a list"
    for event in found["events"]:
        if not isinstance(event, dict) or not event.keys() >= _EVENT_FIELDS:
            return f"an event without {', '.join(sorted(_EVENT_FIELDS))}, as those of stages.video.track have"
        if not all(isinstance(event[name], str) for name in ("id", "state", "rule")):
            return "an event whose id, state or rule is no text"
        if not isinstance(event["start"], _NUMBER):
            return "an event whose start is no number"
        best = event["best"]
        if best and not (isinstance(best, dict) and best.keys() >= _BEST_FIELDS):
            return f"an event whose best has no {', '.join(sorted(_BEST_FIELDS))}"
    return ""
