"""A source is never held up, whatever the broker does. Real brokers: tests/foreign/test_mqtt.py, tests/faults/test_mqtt.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from pipeline.graph.plan import MqttPlan
from pipeline.mqtt.publisher import Publisher
from pipeline.mqtt.watched import Watched
from pipeline.video.frame import Frame, Size
from pipeline.video.pausing import Pause
from pipeline.video.scene import Drawn, Scene
from pipeline.video.tracks import Told
from tests.integration.brokers import free_port
from tests.unit.pipeline.mqtt.test_states import answer, counts, event


class Said(list[tuple[str, str]]):
    def __call__(self, level: str, text: str) -> None:
        self.append((level, text))


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def publisher(tmp_path: Path, said: Said) -> Iterator[Publisher]:
    mqtt = MqttPlan("127.0.0.1", free_port())
    watched = Watched(("person",))
    made = Publisher(mqtt, "door", {"door"}, "edge", "1", tmp_path, watched, Pause(tmp_path, "door"), said)
    yield made
    made.close()


def frame(number: int) -> Frame:
    return Frame(number, Drawn(Scene(Size(64, 48)), number), time.monotonic_ns(), number / 25)


def test_frames_pass_while_there_is_no_broker_and_that_is_said_once(publisher: Publisher, said: Said) -> None:
    for number in range(3000):
        begins = (event(f"{number}", "begin", best=number),)
        publisher.answered("door", frame(number), {}, answer(number, "person", events=begins))
    publisher.failed("door", frame(0), Unavailable("gone"))
    publisher.reported(counts())
    while not said:
        time.sleep(0.01)
    time.sleep(1.0)
    unreachable = [text for level, text in said if level == "warning" and "is not there: Connection refused" in text]
    assert len(unreachable) == 1
    assert unreachable[0].endswith("; it is tried again")
    # Of 3000 events the newest 1000 wait.
    assert publisher.waiting == (1000, 2000)


def test_tracks_without_their_fields_are_an_error_of_that_answer_alone(publisher: Publisher) -> None:
    document = {"stream": 1, "sequence": 1, "time": 1.0, "tracks": [{"id": 7}], "events": []}
    with pytest.raises(ValueError, match=r"its tracks have not the fields of docs/edge-events\.md"):
        publisher.answered("door", frame(1), {}, Told(document))
    publisher.answered("door", frame(2), {}, answer(2, events=(event("a", "begin"),)))
    publisher.answered("door", frame(3), {}, Told())
    assert publisher.waiting == (1, 0)


def test_an_answer_whose_document_is_of_another_form_is_none(publisher: Publisher) -> None:
    publisher.reported(counts())
    publisher.answered("door", frame(1), {}, Told({"tracks": 3}, wrong="the output tracks has no events"))
    assert publisher._states.tick(time.monotonic()) == []
    publisher.answered("door", frame(2), {}, Told())
    assert publisher._states._published["trtlab/door/watching"] == "online"
