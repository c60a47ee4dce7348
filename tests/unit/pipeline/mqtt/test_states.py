"""What is published of a camera, by its answers and its counts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.mqtt.entities import announcement
from pipeline.mqtt.states import DIAGNOSTICS_S, PATIENCE_S, States
from pipeline.mqtt.topics import Publication, Topics
from pipeline.mqtt.watched import Place, Watched
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts

DOOR = Topics("trtlab", "homeassistant", "door")


def counts(state: str = "connected", answered: int = 0, last_frame: int = 0, **dropped: int) -> CameraCounts:
    return CameraCounts(
        camera="door", state=state, detail="", since=0, last_frame=last_frame, frames=answered, sent=answered,
        answered=answered, failed=0, dropped=dropped, reconnects=0, copied=0,
    )  # fmt: skip


def event(id: str, state: str, rule: str = "object", best: int | None = None) -> dict[str, Any]:
    shown = None if best is None else {"sequence": best, "time": float(best)}
    return {"id": id, "state": state, "rule": rule, "start": 1.0, "end": None, "reason": None, "best": shown}


def answer(sequence: int, *labels: str, events: tuple[dict[str, Any], ...] = ()) -> Told:
    tracks = [{"label": label, "zones": []} for label in labels]
    return Told({"stream": 1, "sequence": sequence, "time": float(sequence), "tracks": tracks, "events": events}, events)


@dataclass
class Camera:
    """A camera's states, and what of them was published."""

    states: States
    topics: dict[str, Any] = field(default_factory=dict)

    def take(self, publications: list[Publication]) -> list[str]:
        """Which topics were published, without what all of them begin with."""
        for one in publications:
            self.topics[one.topic] = one.payload
        return [one.topic.removeprefix("trtlab/door/") for one in publications]

    @property
    def watching(self) -> object:
        return self.topics.get(DOOR.watching)

    def json(self, topic: str) -> Any:
        return json.loads(self.topics[topic])


def camera(*labels: str, snapshots: bool = True) -> Camera:
    made = Camera(States(DOOR, Watched(labels or None, ()), "edge", "1", snapshots=snapshots))
    made.take(made.states.begin(paused=False))
    return made


def watched(*labels: str) -> Camera:
    """One whose frames are looked at, at second 100."""
    made = camera(*labels)
    made.take(made.states.reported(counts(), 100.0, 0.0))
    made.take(made.states.answered(answer(0), 10.0, 100.0)[0])
    assert made.watching == "online"
    return made


def test_before_the_first_frame_it_is_announced_and_not_watched() -> None:
    door = camera("person")
    assert set(door.json(DOOR.config)["components"]) >= {"there:person", "count:person", "events", "snapshot", "paused"}
    assert (door.watching, door.topics[DOOR.paused]) == ("offline", "OFF")
    # Nothing of an earlier run is taken away that will be there again.
    assert DOOR.snapshot not in door.topics
    assert DOOR.things not in door.topics


def test_what_an_earlier_run_has_left_of_states_that_there_are_no_more_is_removed() -> None:
    states = States(DOOR, Watched(), "edge", "1", snapshots=False)
    assert {one.topic for one in states.begin(paused=True) if not one.payload} == {DOOR.snapshot, DOOR.things}


def test_counts_are_published_when_they_change_and_before_it_is_watched() -> None:
    door = camera("person", "car")
    door.take(door.states.reported(counts(), 100.0, 0.0))
    assert door.watching == "offline"
    assert door.take(door.states.answered(answer(1, "person", "person"), 10.0, 100.1)[0]) == ["things", "watching"]
    assert door.json(DOOR.things) == {"all": {"person": 2, "car": 0}, "zones": {}}
    assert door.watching == "online"
    assert door.take(door.states.answered(answer(2, "person", "person"), 10.0, 100.2)[0]) == []
    assert door.take(door.states.answered(answer(3, "car"), 10.0, 100.3)[0]) == ["things"]


def test_a_camera_that_is_away_is_not_watched_until_its_next_answer() -> None:
    door = watched("person")
    for state in ("reconnecting", "paused", "ended"):
        door.take(door.states.reported(counts(state), 101.0, 0.0))
        assert door.watching == "offline"
        door.take(door.states.reported(counts(), 102.0, 0.0))
        # What is known of its things is of before.
        assert door.watching == "offline"
        door.take(door.states.answered(answer(1), 10.0, 102.1)[0])
        assert door.watching == "online"


def test_a_pipeline_that_fails_frames_for_long_does_not_watch() -> None:
    door = watched("person")
    for second in range(int(PATIENCE_S)):
        door.take(door.states.failed(100.5 + second))
        door.take(door.states.reported(counts(), 100.5 + second, 0.0))
        assert door.watching == "online"
    door.take(door.states.failed(100.5 + PATIENCE_S))
    assert door.watching == "offline"
    # One that fails now and then does.
    door.take(door.states.answered(answer(1), 10.0, 111.0)[0])
    assert door.watching == "online"
    door.take(door.states.failed(111.1))
    assert door.watching == "online"


def test_a_source_that_is_stuck_does_not_watch() -> None:
    door = watched("person")
    door.take(door.states.tick(100.0 + PATIENCE_S - 0.1))
    assert door.watching == "online"
    door.take(door.states.tick(100.0 + PATIENCE_S))
    assert door.watching == "offline"
    door.take(door.states.reported(counts(), 120.0, 0.0))
    assert door.watching == "offline"
    door.take(door.states.answered(Told(), 10.0, 120.1)[0])
    assert door.watching == "online"


def test_events_are_not_kept_and_have_the_type_that_home_assistant_knows() -> None:
    door = watched("person")
    told, _ = door.states.answered(answer(1, events=(event("a", "begin", "enter"), event("b", "end", "leave"))), 10.0, 101.0)
    events = [one for one in told if one.topic == DOOR.events]
    assert [json.loads(one.payload)["event_type"] for one in events] == ["enter", "leave"]
    assert not any(one.retain for one in events)


def test_an_event_of_a_stream_that_broke_is_told_as_ended() -> None:
    door = watched("person")
    # The document of the new stream does not mention it.
    told, _ = door.states.answered(answer(1)._replace(events=[event("a", "end")]), 10.0, 102.0)
    ends = [json.loads(one.payload) for one in told if one.topic == DOOR.events]
    assert [(end["id"], end["state"], end["event_type"]) for end in ends] == [("a", "end", "object_end")]


def test_a_picture_is_wanted_only_of_a_frame_that_shows_a_thing_best() -> None:
    door = watched("person")
    assert door.states.answered(answer(1, events=(event("a", "begin", best=1),)), 10.0, 101.0)[1]
    assert not door.states.answered(answer(2), 10.0, 101.0)[1]
    assert not door.states.answered(answer(3, events=(event("a", "update", best=1),)), 10.0, 101.0)[1]
    assert door.states.answered(answer(4, events=(event("a", "update", best=4),)), 10.0, 101.0)[1]
    without = camera("person", snapshots=False)
    assert not without.states.answered(answer(1, events=(event("a", "begin", best=1),)), 10.0, 101.0)[1]


def test_diagnostics_come_at_once_with_a_new_state_and_otherwise_now_and_then() -> None:
    door = camera("person")
    clock = 1_700_000_000.0
    assert "diagnostics" in door.take(door.states.reported(counts("connecting"), 100.0, clock))
    assert door.json(DOOR.diagnostics)["last_frame"] is None
    assert "diagnostics" in door.take(door.states.reported(counts(), 100.5, clock))
    door.states.answered(Told(), 41.26, 101.0)
    told = counts(answered=6, last_frame=int(100.0 * 1e9), rate=3, older=1)
    assert "diagnostics" in door.take(door.states.reported(told, 102.0, clock))
    found = door.json(DOOR.diagnostics)
    assert (found["fps"], found["age_ms"], found["dropped"], found["drops"]) == (3.0, 41.3, 4, {"rate": 3, "older": 1})
    assert found["last_frame"] == "2023-11-14T22:13:18.000+00:00"
    for second in range(1, int(DIAGNOSTICS_S)):
        assert door.take(door.states.reported(counts(answered=6 + second), 102.0 + second, clock)) == []
    assert door.take(door.states.reported(counts(answered=56), 102.0 + DIAGNOSTICS_S, clock)) == ["diagnostics"]
    assert door.json(DOOR.diagnostics)["fps"] == 5.0
    assert "diagnostics" in door.take(door.states.reported(counts("reconnecting"), 112.1, clock))


def test_a_kind_of_thing_that_comes_is_announced_before_it_is_counted() -> None:
    door = camera()
    door.states.reported(counts(), 100.0, 0.0)
    config, things, _ = door.take(door.states.answered(answer(1, "cat"), 10.0, 100.1)[0])
    assert (config, things) == (DOOR.config, "things")
    assert "there:cat" in door.json(DOOR.config)["components"]


@pytest.mark.parametrize(("labels", "there"), [((), True), (("person",), False)])
def test_what_was_announced_before_is_kept_if_kinds_come_and_removed_if_they_are_named(
    labels: tuple[str, ...], there: bool
) -> None:
    door = camera(*labels)
    kept = announcement(DOOR, "edge", "0", [Place("", "dog")], ["object"], snapshots=True)
    assert door.take(door.states.kept(json.loads(json.dumps(kept)))) == [DOOR.config]
    component = door.json(DOOR.config)["components"]["there:dog"]
    assert ("state_topic" in component) == there
    # Our own, which the broker gives back, changes nothing.
    assert door.take(door.states.kept(door.json(DOOR.config))) == []


def test_the_switch_is_shown_when_it_changes() -> None:
    door = camera("person")
    assert door.take(door.states.paused(False)) == []
    assert door.take(door.states.paused(True)) == ["paused"]
    assert door.topics[DOOR.paused] == "ON"
