"""Tracks: the document in which an answer tells tracks and events, as it comes out of a pipeline. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.graph.recording import TRACKS

__all__ = ["tracks_of"]

_FIELDS = {"stream", "sequence", "time", "events"}
_EVENT_FIELDS = {"id", "state", "rule", "zone", "label", "start", "end", "duration", "best"}


def tracks_of(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document among the outputs of an answer, as docs/edge-events.md has it.

    Raises:
        ValueError: the output is another one.
    """
    found = outputs[TRACKS]
    if not isinstance(found, dict) or not found.keys() >= _FIELDS:
        raise ValueError(f"the output {TRACKS} has no {', '.join(sorted(_FIELDS))}, as that of stages.video.track has")
    if not all(isinstance(event, dict) and event.keys() >= _EVENT_FIELDS for event in found["events"]):
        raise ValueError(f"an event in the output {TRACKS} has no {', '.join(sorted(_EVENT_FIELDS))}")
    return found
