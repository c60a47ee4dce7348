"""The broker of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.findings import Findings, Locations
from pipeline.config.mqtt import MqttConfig, MqttTlsConfig
from pipeline.config.sources import SourceConfig
from pipeline.errors import ConfigError
from pipeline.graph.broker import broker_of
from pipeline.graph.plan import MqttPlan

CAMERA = SourceConfig(name="door", url="synthetic")


def broker(mqtt: MqttConfig | None, *sources: SourceConfig) -> MqttPlan | None:
    findings = Findings(Locations("x.yaml:1:1"))
    found = broker_of(mqtt, sources or (CAMERA,), findings)
    findings.refuse()
    return found


def test_the_port_follows_from_tls_unless_it_is_said() -> None:
    assert broker(None) is None
    assert broker(MqttConfig(host="b")) == MqttPlan("b", 1883)
    assert broker(MqttConfig(host="b", tls=MqttTlsConfig())) == MqttPlan("b", 8883, tls=True)
    files = MqttTlsConfig(ca="ca.pem", certificate="own.pem", key="own.key")
    found = broker(MqttConfig(host="b", port=99, tls=files, user="u", password="${P}", snapshots=False))
    assert found == MqttPlan(
        "b", 99, user="u", password="${P}", tls=True, ca="ca.pem", certificate="own.pem", key="own.key", snapshots=False
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"user": "u", "password": "hunter2"}, r"mqtt.password: a password in the file: write \$\{NAME\}"),
        ({"user": "u", "password": "${P:-hunter2}"}, r"mqtt.password: a password in the file"),
        ({"user": "u", "password": "hunter2${P}"}, r"mqtt.password: a password in the file"),
        ({"user": "u", "password": "${P}", "password_file": "f"}, "leave out one of the two"),
        ({"password": "${P}"}, "mqtt.password: expected a user as well"),
        ({"password_file": "f"}, "mqtt.password_file: expected a user as well"),
        ({"host": "mqtt://u:hunter2@b"}, "mqtt.host: expected a name or an address alone"),
        ({"host": "u:hunter2@b"}, "mqtt.host: expected a name or an address alone"),
        ({"tls": MqttTlsConfig(key="k")}, "mqtt.tls: expected both certificate and key"),
    ],
)
def test_what_cannot_be_is_refused_and_no_password_is_shown(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        broker(MqttConfig(**{"host": "b", **fields}))
    assert "hunter2" not in str(caught.value)


def test_without_cameras_there_is_nothing_to_publish() -> None:
    findings = Findings(Locations("x.yaml:1:1"))
    broker_of(MqttConfig(host="b"), (), findings)
    with pytest.raises(ConfigError, match="mqtt: what is published are cameras: add sources"):
        findings.refuse()
