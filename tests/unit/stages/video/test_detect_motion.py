from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.errors import BadInput, BadOption
from stages.request import RequestInfo
from stages.testing import run
from stages.video.detect_motion import DetectMotion

EMPTY = np.full((90, 160, 3), 90, np.uint8)
THING = EMPTY.copy()
THING[30:60, 20:40] = 220


def request(camera: str, second: float, stream: int = 1) -> RequestInfo:
    return RequestInfo("0-1", f"{camera}@{second}", stream=stream, sequence=int(second) + 1)


def looks(stage: DetectMotion, *frames: tuple[RequestInfo, np.ndarray]) -> list[int]:
    batch = run(stage, [request for request, _ in frames], image=[frame for _, frame in frames])
    return [int(batch.result(row, "look")) for row in range(len(frames))]


def test_the_detector_looks_where_something_moves_in_that_camera_alone() -> None:
    stage = DetectMotion(linger_s=1)
    for second in range(3):
        looks(stage, (request("door", second, 1), EMPTY), (request("yard", second, 2), EMPTY))
    assert looks(stage, (request("door", 3, 1), THING), (request("yard", 3, 2), EMPTY)) == [1, 0]


def test_how_much_has_changed_is_told() -> None:
    stage = DetectMotion()
    looks(stage, (request("door", 0), EMPTY))
    batch = run(stage, [request("door", 1)], image=[THING])
    assert batch.result(0, "share") == pytest.approx(20 * 30 / (90 * 160), rel=0.1)


def test_a_new_stream_of_a_camera_begins_with_a_look() -> None:
    stage = DetectMotion(linger_s=1)
    assert [looks(stage, (request("door", second), EMPTY))[0] for second in range(3)] == [1, 0, 0]
    assert looks(stage, (request("door", 3, stream=2), EMPTY)) == [1]


def test_masks_are_of_their_camera() -> None:
    stage = DetectMotion(linger_s=1, masks={"door": [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]})
    for second in range(2):
        looks(stage, (request("door", second, 1), EMPTY), (request("yard", second, 2), EMPTY))
    assert looks(stage, (request("door", 2, 1), THING), (request("yard", 2, 2), THING)) == [0, 1]


def test_of_a_camera_that_is_off_each_frame_is_looked_at() -> None:
    stage = DetectMotion(linger_s=1, off=["door"])
    for second in range(3):
        found = looks(stage, (request("door", second, 1), EMPTY), (request("yard", second, 2), EMPTY))
    assert found == [1, 0]


def test_without_a_time_in_its_name_a_frame_is_of_now() -> None:
    stage = DetectMotion(linger_s=1)
    now = [0.0]
    stage._now = lambda: now[0]
    info = RequestInfo("0-1", "door", stream=1, sequence=1)
    assert looks(stage, (info, EMPTY)) == [1]
    now[0] = 5.0
    assert looks(stage, (info, EMPTY)) == [0]


@pytest.mark.parametrize(
    ("info", "frame", "said"),
    [
        (RequestInfo("0-1", "door"), EMPTY, "of no stream"),
        (request("door", 1), EMPTY[:0], "without pixels: 0x160"),
    ],
)
def test_what_is_no_frame_of_a_camera_fails_alone(info: RequestInfo, frame: np.ndarray, said: str) -> None:
    batch = run(DetectMotion(), [info, request("yard", 1, 2)], image=[frame, EMPTY])
    with pytest.raises(BadInput, match=said):
        batch.result(0, "look")
    assert batch.result(1, "look") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": 0}, "columns 0"),
        ({"threshold": 0}, "threshold: expected a number above 0"),
        ({"area": 2}, "area: expected a number from 0 to 1"),
        ({"linger_s": -1}, "linger_s: expected a number of at least 0"),
        ({"every_s": 0}, "every_s: expected a number above 0"),
        ({"masks": {"door": [[[0, 0]]]}}, r"masks\.door\[0\]: expected a polygon"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        DetectMotion(**options)
