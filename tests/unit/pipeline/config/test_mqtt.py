"""The part of the YAML that names a broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config.loader import load_config
from pipeline.config.mqtt import MqttConfig
from pipeline.errors import ConfigError


def test_all_but_the_host_has_a_default() -> None:
    found = MqttConfig(host="broker")
    assert (found.topic, found.discovery, found.snapshots, found.port, found.tls) == ("trtlab", "homeassistant", True, None, None)


@pytest.mark.parametrize("topic", ["", "a//b", "/a", "a/", "a/+", "#", "$SYS", "a b", "a" * 101])
def test_a_prefix_that_would_be_no_topic_or_several_is_refused(topic: str) -> None:
    with pytest.raises(ValidationError, match="expected words of"):
        MqttConfig(host="broker", topic=topic)


def test_a_password_of_another_type_is_refused_without_being_shown(tmp_path: Path) -> None:
    path = tmp_path / "house.yaml"
    path.write_text(
        "inputs: [{name: a, dtype: uint8, shape: [1]}]\n"
        "mqtt: {host: broker, user: home, password: 271828}\n"
        "stages: [{name: s, use: 'm:C'}]\n"
    )
    with pytest.raises(ConfigError, match=r"mqtt\.password: expected text") as caught:
        load_config(path)
    assert "271828" not in str(caught.value)
