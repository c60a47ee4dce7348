"""The document of tracks and events: what is taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.video.tracks import tracks_of

EVENT = dict.fromkeys(("id", "state", "rule", "zone", "label", "start", "end", "duration", "best"))
DOCUMENT: dict[str, Any] = {"stream": "door", "sequence": 3, "time": 1.0, "events": [EVENT], "tracks": []}


def test_the_document_is_found_among_the_outputs() -> None:
    assert tracks_of({"tracks": DOCUMENT, "frame": b""}) is DOCUMENT


@pytest.mark.parametrize("field", ["stream", "sequence", "time", "events"])
def test_an_output_of_another_stage_says_what_it_lacks(field: str) -> None:
    with pytest.raises(ValueError, match=f"has no .*{field}"):
        tracks_of({"tracks": {key: value for key, value in DOCUMENT.items() if key != field}})
    with pytest.raises(ValueError, match="has no"):
        tracks_of({"tracks": [1, 2]})


def test_an_event_that_lacks_something_is_refused() -> None:
    with pytest.raises(ValueError, match="an event in the output"):
        tracks_of({"tracks": DOCUMENT | {"events": [EVENT, {"id": 1}]}})
