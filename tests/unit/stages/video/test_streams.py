from __future__ import annotations

import pytest

from stages.errors import BadInput
from stages.request import RequestInfo
from stages.video.streams import Streams


def frame(stream: int) -> RequestInfo:
    return RequestInfo("0-1", stream=stream)


@pytest.fixture
def streams() -> Streams[list[str]]:
    return Streams(lambda camera: [camera])


def test_of_a_stream_the_same_is_kept_and_of_each_camera_another(streams: Streams[list[str]]) -> None:
    door, yard = streams.of(frame(1), "door"), streams.of(frame(2), "yard")
    assert (door, yard) == ((["door"], None), (["yard"], None))
    assert streams.of(frame(1), "door")[0] is door[0]


def test_a_new_stream_of_a_camera_begins_anew_and_is_given_what_was_kept_once(streams: Streams[list[str]]) -> None:
    kept, _ = streams.of(frame(1), "door")
    anew, before = streams.of(frame(3), "door")
    assert before is kept
    assert anew is not kept
    assert streams.of(frame(3), "door") == (anew, None)


def test_of_too_many_cameras_the_one_that_was_silent_longest_is_forgotten(streams: Streams[list[str]]) -> None:
    kept = {number: streams.of(frame(number), str(number))[0] for number in range(1, 257)}
    streams.of(frame(1), "1")
    streams.of(frame(257), "257")
    assert len(streams) == 256
    assert streams.of(frame(1), "1")[0] is kept[1]
    assert streams.of(frame(2), "2")[0] is not kept[2]


def test_a_stream_is_of_one_camera(streams: Streams[list[str]]) -> None:
    streams.of(frame(1), "door")
    with pytest.raises(BadInput, match="a frame of the camera 'yard' in the stream of the camera 'door'"):
        streams.of(frame(1), "yard")
    # The number of a stream that is over says nothing any more.
    streams.of(frame(2), "door")
    assert streams.of(frame(1), "yard") == (["yard"], None)


@pytest.mark.parametrize(("stream", "camera", "said"), [(0, "door", "of no stream"), (1, "d" * 65, "65 characters")])
def test_what_is_no_frame_of_a_camera_is_refused_and_not_kept(
    streams: Streams[list[str]], stream: int, camera: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        streams.of(frame(stream), camera)
    assert len(streams) == 0
