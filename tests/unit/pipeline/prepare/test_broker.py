"""What publishing needs is looked for before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.errors import ConfigError, StartError
from pipeline.graph.plan import MqttPlan, Plan
from pipeline.prepare import broker
from pipeline.prepare.broker import refuse_broker
from tests.unit.pipeline.supervisor.test_supervision import PLAN


def plan(folder: Path, mqtt: MqttPlan) -> Plan:
    return replace(PLAN, base_dir=str(folder), mqtt=mqtt)


def test_without_paho_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_broker(plan(tmp_path, MqttPlan("b")))
    monkeypatch.setattr(broker, "find_spec", lambda name: None)
    refuse_broker(PLAN)
    with pytest.raises(StartError, match=r"mqtt: paho-mqtt, .* pip install 'trtlab\[mqtt\]'"):
        refuse_broker(plan(tmp_path, MqttPlan("b")))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mqtt: password_file: .*secret cannot be read"):
        refuse_broker(plan(tmp_path, MqttPlan("b", password_file="secret")))
    with pytest.raises(ConfigError, match=r"mqtt: tls.ca: .*ca.pem: expected a PEM file: No such file"):
        refuse_broker(plan(tmp_path, MqttPlan("b", tls=True, ca="ca.pem")))
    for name in ("secret", "ca.pem", "own.pem", "own.key"):
        (tmp_path / name).write_text("nothing of that kind")
    refuse_broker(plan(tmp_path, MqttPlan("b", password_file="secret")))
    with pytest.raises(ConfigError, match=r"mqtt: tls.ca: .* expected a PEM file of certificates"):
        refuse_broker(plan(tmp_path, MqttPlan("b", tls=True, ca="ca.pem")))
    with pytest.raises(ConfigError, match=r"mqtt: tls.certificate: .*own.pem.*own.key: expected PEM files"):
        refuse_broker(plan(tmp_path, MqttPlan("b", tls=True, certificate="own.pem", key="own.key")))
