from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stages.errors import BadInput, BadOption
from stages.request import RequestInfo
from stages.testing import MemoryBatch, run
from stages.video.track import Track

LABELS = ["person", "car", "cat"]
LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]

Things = Sequence[tuple[int, float, float]]
"""Class, score, and x of the middle."""


def rows(things: Things) -> np.ndarray:
    found = np.zeros((20, 6), np.float32)
    for row, (kind, score, x) in enumerate(things):
        found[row] = (kind, score, 0.4, x - 0.05, 0.6, x + 0.05)
    return found


def request(camera: str = "door", second: float = 0.0, stream: int = 1) -> RequestInfo:
    return RequestInfo("00000-1", f"{camera}@{second}", stream=stream, sequence=int(second) + 1)


def take(stage: Track, *frames: tuple[RequestInfo, Things | None]) -> MemoryBatch:
    return run(
        stage,
        [request for request, _ in frames],
        detections=[None if things is None else rows(things) for _, things in frames],
        count=[None if things is None else np.int32(len(things)) for _, things in frames],
    )


def follow(stage: Track, things: Sequence[Things | None], **of: Any) -> list[dict[str, Any]]:
    """What is told of frames, one a second."""
    start = of.pop("start", 0)
    return [
        take(stage, (request(second=start + second, **of), found)).result(0, "tracks")
        for second, found in enumerate(things)
    ]


PERSON: Things = [(0, 0.8, 0.2)]


def test_an_answer_says_what_is_there_and_what_has_happened() -> None:
    *_, told = follow(Track(LABELS, default={"zones": {"left": LEFT}}), [PERSON] * 3)
    assert {name: told[name] for name in ("camera", "stream", "sequence", "time", "looked", "left_out", "untold")} == {
        "camera": "door", "stream": 1, "sequence": 3, "time": 2.0, "looked": True, "left_out": 0, "untold": 0,
    }  # fmt: skip
    assert told["tracks"] == [
        {"id": 1, "label": "person", "score": 0.8, "box": [0.4, 0.15, 0.6, 0.25], "zones": [], "start": 0, "seen": 2.0}
    ]
    (event,) = told["events"]
    assert (event["state"], event["rule"], event["camera"], event["start"]) == ("begin", "object", "door", 0)


def test_frames_that_were_not_looked_at_keep_their_tracks() -> None:
    stage = Track(LABELS)
    *_, told = follow(stage, [PERSON] * 3 + [None] * 60)
    assert not told["looked"]
    assert [track["id"] for track in told["tracks"]] == [1]


def test_cameras_are_kept_apart_also_in_one_batch() -> None:
    stage = Track(LABELS)
    for second in range(3):
        batch = take(
            stage,
            (request("door", second, 1), PERSON),
            (request("yard", second, 2), [(1, 0.9, 0.7), (2, 0.9, 0.3)]),
        )
    labels = [[track["label"] for track in batch.result(row, "tracks")["tracks"]] for row in (0, 1)]
    assert labels == [["person"], ["car", "cat"]]


def test_frames_of_one_stream_are_taken_in_their_order_whatever_the_order_of_rows() -> None:
    stage = Track(LABELS, confirm=1)
    batch = take(stage, (request(second=2), PERSON), (request(second=0), []), (request(second=1), PERSON))
    assert [len(batch.result(row, "tracks")["tracks"]) for row in range(3)] == [1, 0, 1]
    assert batch.result(0, "tracks")["tracks"][0]["start"] == 1


def test_each_camera_has_its_own_rules_labels_and_masks() -> None:
    cameras = {
        "door": {"labels": ["person"]},
        "yard": {"masks": [LEFT]},
        "gate": {"rules": [{"rule": "enter", "labels": ["car"]}]},
    }
    things: Things = [(0, 0.8, 0.2), (1, 0.8, 0.8)]
    found = {}
    for stream, camera in enumerate(("door", "yard", "gate", "other"), 1):
        stage = Track(LABELS, cameras)
        (told,) = follow(stage, [things] * 3, camera=camera, stream=stream)[2:]
        found[camera] = [track["label"] for track in told["tracks"]], [event["rule"] for event in told["events"]]
    assert found == {
        "door": (["person"], ["object"]),
        "yard": (["car"], ["object"]),
        "gate": (["person", "car"], ["object", "object", "enter"]),
        "other": (["person", "car"], ["object", "object"]),
    }


def test_a_new_stream_of_a_camera_ends_the_events_of_the_one_before() -> None:
    stage = Track(LABELS)
    follow(stage, [PERSON] * 4)
    told = follow(stage, [[]], stream=2, start=10)[0]
    assert [(event["state"], event["reason"], event["end"]) for event in told["events"]] == [("end", "stream", 3.0)]
    assert (told["stream"], told["tracks"]) == (2, [])


def test_without_a_time_in_its_name_a_frame_is_of_now() -> None:
    stage = Track(LABELS)
    stage._now = lambda: 1764505805.25
    told = take(stage, (RequestInfo("00000-1", "door", stream=1, sequence=1), [])).result(0, "tracks")
    assert (told["camera"], told["time"]) == ("door", 1764505805.25)


def test_time_never_goes_backwards_in_a_stream() -> None:
    stage = Track(LABELS)
    take(stage, (RequestInfo("0-1", "door@9", stream=1, sequence=1), []))
    told = take(stage, (RequestInfo("0-2", "door@8", stream=1, sequence=2), [])).result(0, "tracks")
    assert told["time"] == 9


def test_a_clock_that_was_set_back_ends_what_is_open_and_time_goes_on_from_there() -> None:
    stage = Track(LABELS)
    follow(stage, [PERSON] * 4, start=3600)
    told = follow(stage, [PERSON] * 3, start=10)
    assert [frame["time"] for frame in told] == [10, 11, 12]
    assert [(event["state"], event["reason"], event["end"]) for event in told[0]["events"]] == [("end", "stream", 3603)]
    assert told[0]["tracks"] == []
    (begun,) = told[2]["events"]
    assert (begun["state"], begun["start"]) == ("begin", 10)


def test_reports_that_have_no_room_come_with_later_frames_in_their_order() -> None:
    names = [f"{'zone' * 15}{number}" for number in range(10)]
    default = {"zones": dict.fromkeys(names, LEFT), "rules": [{"rule": "enter", "zone": name} for name in names]}
    stage = Track(LABELS, default=default, max_bytes=4096)
    frames = follow(stage, [PERSON] * 20)
    told = [event for frame in frames for event in frame["events"] if event["rule"] == "enter"]
    assert [event["zone"] for event in told] == names
    assert len([frame for frame in frames if frame["events"]]) > 3
    assert frames[-1]["untold"] == 0


def test_reports_beyond_a_thousand_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.video.track._MOST_UNTOLD", 3)
    rules = [{"rule": "enter"}] * 10
    *_, told = follow(Track(LABELS, default={"rules": rules}), [PERSON] * 3)
    assert told["untold"] == 8
    assert [event["rule"] for event in told["events"]] == ["enter"] * 3


@pytest.mark.parametrize(
    ("info", "detections", "count", "said"),
    [
        (RequestInfo("0-1", "door"), rows([]), 0, "of no stream"),
        (RequestInfo("0-1", "d" * 65, stream=1), rows([]), 0, "name of 65 characters"),
        (request(), rows([]), -1, "a count of -1 detections"),
        (request(), rows([]), 21, "a count of 21 detections"),
        (request(), np.full((20, 6), math.nan, np.float32), 1, "not finite"),
    ],
)
def test_a_request_that_is_no_frame_of_a_camera_fails_alone(
    info: RequestInfo, detections: np.ndarray, count: int, said: str
) -> None:
    batch = run(
        Track(LABELS),
        [info, request("yard", stream=2)],
        detections=[detections, rows([])],
        count=[np.int32(count), np.int32(0)],
    )
    with pytest.raises(BadInput, match=said):
        batch.result(0, "tracks")
    assert batch.result(1, "tracks")["camera"] == "yard"


def test_a_class_without_a_name_has_its_number() -> None:
    (told,) = follow(Track(LABELS, confirm=1), [[(7, 0.9, 0.5)]])
    assert told["tracks"][0]["label"] == "class 7"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confirm": 0}, "confirm 0"),
        ({"begin": 2}, "begin: expected a number from 0 to 1"),
        ({"patience_s": -1}, "patience_s: expected a number of at least 0"),
        ({"max_bytes": 100}, "max_bytes 100: expected at least 4096"),
        ({"cameras": {"door": {"zone": 1}}}, r"cameras\.door: no option 'zone'"),
        ({"default": {"labels": ["dog"]}}, r"default\.labels: no label 'dog'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        Track(LABELS, **options)
