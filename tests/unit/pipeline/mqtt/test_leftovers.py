"""Cameras that the config has no more."""

from __future__ import annotations

import json

from pipeline.mqtt.entities import announcement
from pipeline.mqtt.leftovers import Leftovers
from pipeline.mqtt.topics import Publication, Topics

DOOR = Topics("trtlab", "homeassistant", "door")


def of(pipeline: str) -> object:
    document: object = json.loads(json.dumps(announcement(DOOR.other("shed"), pipeline, "1", [], [], snapshots=True)))
    return document


def test_a_camera_that_is_gone_is_removed_once_it_is_offline_and_once() -> None:
    left = Leftovers(DOOR, {"door"}, "edge")
    assert left.announced("shed", of("edge")) == []
    assert left.status("shed", "online") == []
    removed = left.status("shed", "offline")
    assert removed == [Publication(topic, "") for topic in DOOR.other("shed").retained]
    assert left.status("shed", "offline") == []


def test_the_status_may_be_known_first() -> None:
    left = Leftovers(DOOR, {"door"}, "edge")
    assert left.status("shed", "offline") == []
    assert left.announced("shed", of("edge")) != []


def test_cameras_of_the_config_of_another_pipeline_and_those_that_are_alive_stay() -> None:
    left = Leftovers(DOOR, {"door", "shed"}, "edge")
    assert left.status("shed", "offline") == left.announced("shed", of("edge")) == []
    left = Leftovers(DOOR, {"door"}, "edge")
    assert left.status("shed", "offline") == left.announced("shed", of("another")) == []
    assert left.announced("shed", "what is no announcement") == []
    left = Leftovers(DOOR, {"door"}, "edge")
    left.status("shed", "offline")
    left.status("shed", "online")
    assert left.announced("shed", of("edge")) == []
