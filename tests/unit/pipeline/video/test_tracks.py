"""What an answer tells of tracks and events: where it is, and what is taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.video.tracks import Told, Tracks, document_in

EVENT: dict[str, Any] = {
    "id": "1-door-1", "state": "begin", "rule": "enter", "zone": "porch", "label": "person", "start": 1.0, "end": None,
    "duration": 0.0, "best": {"sequence": 3, "time": 1.0},
}  # fmt: skip
DOCUMENT: dict[str, Any] = {"stream": 1, "sequence": 3, "time": 1.0, "events": [EVENT], "tracks": []}


def test_the_document_is_found_by_its_name_or_by_its_fields() -> None:
    assert document_in({"x": 3, "found": DOCUMENT}, "found") is DOCUMENT
    assert document_in({"x": DOCUMENT}, "found") is None
    assert document_in({"x": {"tracks": 1}, "y": [1], "z": DOCUMENT}, "") is DOCUMENT
    assert document_in({"x": 3}, "") is None


def test_an_answer_without_a_document_tells_nothing_and_nothing_is_wrong() -> None:
    # A stage that was skipped has no output.
    assert Tracks("tracks").take({"count": 3}) == Told(None, (), "")


def test_an_event_is_told_with_its_document_and_once_more_as_ended_if_its_stream_is_over() -> None:
    tracks = Tracks("tracks")
    told = tracks.take({"tracks": DOCUMENT, "frame": b""})
    assert told.document is DOCUMENT
    assert (told.events, told.wrong) == ([EVENT], "")
    assert tracks.take({}).events == ()
    told = tracks.take({"tracks": {**DOCUMENT, "stream": 2, "time": 60.0, "events": [{**EVENT, "id": "2-door-1"}]}})
    assert [(event["id"], event["state"]) for event in told.events] == [("1-door-1", "end"), ("2-door-1", "begin")]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([1, 2], "the output tracks has no events, sequence, stream, time"),
        (3, "has no events"),
        *(({key: value for key, value in DOCUMENT.items() if key != field}, field) for field in ("stream", "sequence", "time", "events")),
        ({**DOCUMENT, "time": None}, "another time than a number"),
        ({**DOCUMENT, "events": None}, "other events than a list"),
        ({**DOCUMENT, "events": [EVENT, {"id": "2"}]}, "an event without best, duration"),
        ({**DOCUMENT, "events": [3]}, "an event without"),
        ({**DOCUMENT, "events": [{**EVENT, "id": [3]}]}, "id, state or rule is no text"),
        ({**DOCUMENT, "events": [{**EVENT, "start": None}]}, "start is no number"),
        ({**DOCUMENT, "events": [{**EVENT, "best": {"score": 1.0}}]}, "best has no sequence, time"),
        ({**DOCUMENT, "events": [{**EVENT, "best": 7}]}, "best has no"),
    ],
)  # fmt: skip
def test_a_document_of_another_form_tells_no_event_and_what_it_lacks(found: Any, why: str) -> None:
    tracks = Tracks("tracks")
    told = tracks.take({"tracks": found})
    assert (told.document, told.events) == (found if isinstance(found, dict) else None, ())
    assert why in told.wrong
    # Nothing of it is kept: the next one is as the first.
    assert tracks.take({"tracks": {**DOCUMENT, "stream": 2}}).events == [EVENT]


def test_one_that_was_looked_for_is_named_by_what_it_has() -> None:
    assert Tracks("").take({"mine": {**DOCUMENT, "events": [3]}}).wrong.startswith("the output with tracks and events has an event")
