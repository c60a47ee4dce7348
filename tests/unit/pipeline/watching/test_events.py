"""Events as lines for people."""

from __future__ import annotations

from datetime import timezone
from typing import Any

import pytest

from pipeline.watching.events import line_of

EVENT = {
    "camera": "door", "time": 40.0, "rule": "enter", "zone": "porch", "label": "person", "state": "begin", "duration": 0.4,
    "reason": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "person enters porch"),
        ({"zone": ""}, "person enters the picture"),
        ({"state": "end", "duration": 29.2}, "person has left porch, after 29 s"),
        ({"state": "end", "duration": 5.25, "reason": "gone"}, "person was last seen in porch, after 5.2 s"),
        ({"state": "end", "reason": "stream"}, "person has left porch, after 0.4 s (the stream was broken)"),
        ({"rule": "object", "state": "end", "duration": 185}, "person is gone, after 3 min 5 s"),
        ({"rule": "count", "label": None, "count": 4}, "4 things in porch"),
        ({"rule": "loiter", "duration": 20}, "person has been in porch for 20 s"),
        ({"rule": "my own"}, "my own: person in porch begins"),
    ],
)
def test_what_has_changed_is_said_in_words(changes: dict[str, Any], said: str) -> None:
    assert line_of({**EVENT, **changes}, 6, timezone.utc) == f"00:00:40  door    {said}"


def test_of_an_event_that_goes_on_nothing_is_said() -> None:
    assert line_of({**EVENT, "state": "update"}) is None
