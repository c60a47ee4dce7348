"""What callers are told of cameras and events."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.serving.cameras.documents import Clip, Recorded, camera_document, event_documents, is_recording
from pipeline.video.gallery import Shown

NOW = 1000.0


def shown(**fields: Any) -> Shown:
    return Shown(**{"camera": "door", "written": NOW, "state": "connected", "answered_at": NOW - 2, **fields})


def event(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "rule": "object", "start": float(id.split("-")[0]), "end": None, **fields}


def events(recorded: Recorded, *told: dict[str, Any], most: int = 99) -> list[dict[str, Any]]:
    return event_documents("edge", [shown(events=list(told))], recorded, most, lambda camera, name: f"{camera}/{name}")


def test_a_camera_of_a_living_source_is_as_that_says() -> None:
    found = camera_document("edge", shown(tracks=[{"id": 1}]), NOW, paused=False)
    assert (found["model"], found["state"], found["age_s"], found["tracks"], found["paused"]) == ("edge", "connected", 2.0, [{"id": 1}], False)


def test_paths_of_files_are_not_shown() -> None:
    found = camera_document("edge", shown(config="/secret/edge.yaml", recordings="/secret/clips"), NOW, paused=False)
    assert "secret" not in str(found)


def test_a_source_that_says_nothing_for_three_seconds_is_silent_and_its_boxes_are_gone() -> None:
    assert camera_document("edge", shown(), NOW + 2.9, paused=False)["state"] == "connected"
    found = camera_document("edge", shown(tracks=[{"id": 1}], fps=5.0), NOW + 3.0, paused=True)
    assert (found["state"], found["tracks"], found["fps"], found["paused"], found["age_s"]) == ("silent", [], 0.0, True, 5.0)
    assert "3 s" in found["detail"]


def test_a_camera_that_has_ended_says_nothing_more_and_is_not_silent() -> None:
    assert camera_document("edge", shown(state="ended"), NOW + 999, paused=False)["state"] == "ended"


def test_before_its_first_frame_a_camera_has_no_age() -> None:
    assert camera_document("edge", shown(answered_at=0.0), NOW, paused=False)["age_s"] is None
    # Frames come, and none is answered.
    assert camera_document("edge", shown(answered_at=0.0, last_frame=NOW - 1), NOW, paused=False)["age_s"] == 1.0


def test_events_have_their_recordings_and_the_newest_is_first() -> None:
    recorded = Recorded(
        frozenset({"10.000-door-1.jpg", "10.000-door-1.mp4"}),
        (Clip("10.000-door-1.mp4", "door", ("10.000-door-1", "11.000-door-2")),),
    )
    found = events(recorded, event("10.000-door-1"), event("11.000-door-2"), event("12.000-door-3"))
    assert [(each["id"], each["snapshot"], each["clip"]) for each in found] == [
        ("12.000-door-3", None, None),
        ("11.000-door-2", None, "door/10.000-door-1.mp4"),
        ("10.000-door-1", "door/10.000-door-1.jpg", "door/10.000-door-1.mp4"),
    ]


def test_events_before_this_run_are_known_by_their_recordings() -> None:
    recorded = Recorded(frozenset({"5.250-door-1.jpg", "6.000-yard-1.jpg", "no-event.jpg", "7.000-door-9.mp4"}))
    found = events(recorded)
    # The yard is no camera of this pipeline.
    assert [(each["id"], each["start"], each["snapshot"], each["clip"]) for each in found] == [
        ("7.000-door-9", 7.0, None, "door/7.000-door-9.mp4"),
        ("5.250-door-1", 5.25, "door/5.250-door-1.jpg", None),
    ]


def test_a_clip_that_was_deleted_is_not_offered() -> None:
    recorded = Recorded(frozenset(), (Clip("10.000-door-1.mp4", "door", ("10.000-door-1",)),))
    assert events(recorded, event("10.000-door-1"))[0]["clip"] is None


def test_the_oldest_are_left_out() -> None:
    told = [event(f"{number}.000-door-1") for number in range(30)]
    assert [each["start"] for each in events(Recorded(), *told, most=3)] == [29.0, 28.0, 27.0]


@pytest.mark.parametrize("name", ["1764505805.250-door-3.mp4", "a.jpg", "1.0-my_door-2.jpg"])
def test_names_of_recordings(name: str) -> None:
    assert is_recording(name)


@pytest.mark.parametrize(
    "name",
    ["", ".mp4", "..", "../x.jpg", "..%2fx.jpg", "/etc/passwd", "a/b.jpg", "a\\b.jpg", "x.json", "x.yaml", ".1-door-1.mp4.part", "x.jpg\n", "x.jpg\0", "x.JPG", "ü.jpg", "x" * 300 + ".jpg"],
)
def test_names_of_other_files(name: str) -> None:
    assert not is_recording(name)
