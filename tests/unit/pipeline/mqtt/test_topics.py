"""What a camera's topics are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.mqtt.topics import Topics, unworded, worded

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DOOR = Topics("home/attic", "homeassistant", "door")


def test_all_topics_begin_with_the_prefix_and_the_camera_but_the_announcement() -> None:
    assert DOOR.config == "homeassistant/device/home_attic/door/config"
    own = [topic for topic in DOOR.retained if topic != DOOR.config]
    assert all(topic.startswith("home/attic/door/") for topic in [*own, DOOR.events, DOOR.pause])
    assert len(set(DOOR.retained)) == 7
    assert DOOR.events not in DOOR.retained


def test_another_camera_is_told_by_its_announcement_and_its_status() -> None:
    yard = DOOR.other("yard")
    assert DOOR.camera_of_config(yard.config) == "yard"
    assert DOOR.camera_of_status(yard.status) == "yard"
    assert DOOR.camera_of_status(yard.watching) is None
    assert DOOR.camera_of_config("homeassistant/device/other/yard/config") is None


@given(TEXTS, TEXTS)
def test_two_names_never_become_one_word_and_a_word_has_nothing_that_a_topic_or_a_key_may_not(one: str, two: str) -> None:
    assert unworded(worded(one)) == one
    assert (worded(one) == worded(two)) == (one == two)
    assert not set("/+#: ") & set(worded(one))


@pytest.mark.parametrize(("name", "word"), [("traffic light", "traffic.light"), ("front_porch", "front_porch")])
def test_common_names_stay_readable(name: str, word: str) -> None:
    assert worded(name) == word
