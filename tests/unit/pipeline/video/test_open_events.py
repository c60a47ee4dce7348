from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.video.open_events import OpenEvents, best_shown


def event(id: str, state: str, rule: str = "object") -> dict[str, Any]:
    return {"id": id, "state": state, "rule": rule, "start": 1.0, "end": None, "reason": None}


def answer(stream: int, time: float, *events: dict[str, Any]) -> dict[str, Any]:
    return {"stream": stream, "time": time, "events": list(events)}


def told(events: Sequence[Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["state"]) for one in events]


def test_events_pass_as_they_are_and_those_that_go_on_are_known() -> None:
    events = OpenEvents()
    assert told(events.take(answer(1, 2.0, event("a", "begin"), event("b", "begin")))) == [("a", "begin"), ("b", "begin")]
    assert told(events.take(answer(1, 3.0, event("a", "update"), event("b", "end")))) == [("a", "update"), ("b", "end")]
    assert {id: one["state"] for id, one in events.open.items()} == {"a": "update"}
    assert events.take(answer(1, 4.0)) == []


def test_with_another_stream_all_that_was_open_has_ended_when_the_old_one_was_heard_last() -> None:
    events = OpenEvents()
    events.take(answer(1, 2.0, event("a", "begin")))
    events.take(answer(1, 5.0))
    (end,) = events.take(answer(2, 60.0))
    assert (end["id"], end["state"], end["end"], end["duration"], end["reason"]) == ("a", "end", 5.0, 4.0, "stream")
    assert events.open == {}
    assert events.take(answer(2, 61.0)) == []


def test_an_end_that_the_stage_tells_itself_is_told_once() -> None:
    events = OpenEvents()
    events.take(answer(1, 2.0, event("a", "begin"), event("b", "begin")))
    # There was room for the end of one; that of the other comes with a later answer.
    assert told(events.take(answer(2, 60.0, event("a", "end")))) == [("b", "end"), ("a", "end")]
    assert events.take(answer(2, 61.0, event("b", "end"))) == []


def test_what_begins_in_the_new_stream_goes_on() -> None:
    events = OpenEvents()
    events.take(answer(1, 2.0, event("a", "begin")))
    assert told(events.take(answer(2, 60.0, event("c", "begin")))) == [("a", "end"), ("c", "begin")]
    assert list(events.open) == ["c"]


def test_what_has_left_passes_although_it_never_began() -> None:
    assert told(OpenEvents().take(answer(1, 2.0, event("a", "end", "leave"), event("b", "end")))) == [("a", "end")]


def test_a_frame_shows_those_best_whose_best_picture_is_it_and_of_another_stream_none() -> None:
    best = {"sequence": 3, "time": 9.0}
    events = [{"id": "a", "best": best}, {"id": "b", "best": None}, {"id": "c", "best": {**best, "time": 1.0}}]
    assert [one["id"] for one in best_shown(events, {"sequence": 3, "time": 9.0})] == ["a"]
    assert best_shown(events, {"sequence": 4, "time": 9.0}) == []
