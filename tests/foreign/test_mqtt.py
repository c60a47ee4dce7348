"""A real MQTT broker: TLS, the switch, and what earlier runs have left there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.versus.environments import MOSQUITTO
from pipeline.testing import running
from pipeline.video.pausing import Pause
from tests.faults.load import until
from tests.integration.brokers import Mosquitto, config_of, listening

pytestmark = pytest.mark.foreign


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, environment: Callable[[Path], Path]) -> Path:
    environment(MOSQUITTO)
    return tmp_path


def test_over_tls_the_broker_must_have_a_certificate_of_the_root(folder: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    for name in ("right", "wrong"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
             "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    pair = folder / "right.pem", folder / "right.key"
    broker = Mosquitto(folder, "home", "secret", tls=pair)
    (folder / "password").write_text("secret")
    login = {"port": broker.port, "user": "home", "password_file": "password"}
    with broker, listening(broker.port, "home", "secret", ca=pair[0]) as told:
        with running(config_of(folder, {**login, "tls": {"ca": "wrong.pem"}}, names=("door",))) as pipeline:
            until(lambda: "nothing is published" in pipeline.log())
            assert "cannot agree on TLS" in pipeline.log()
            assert "check mqtt.tls" in pipeline.log()
            assert told.topics() == set()
            pipeline.stop()
        with running(config_of(folder, {**login, "tls": {"ca": "right.pem"}}, names=("door",))) as pipeline:
            until(lambda: told.text("trtlab/door/watching") == "online")
            assert pipeline.stop() == 0


def test_the_switch_is_obeyed_and_an_old_command_is_not(folder: Path) -> None:
    with Mosquitto(folder) as broker, listening(broker.port) as told:
        told.say("trtlab/door/paused/set", "ON", retain=True)
        until(lambda: told.text("trtlab/door/paused/set") == "ON")
        with running(config_of(folder, {"port": broker.port}, names=("door",))) as pipeline:
            pause = Pause(pipeline.run_dir, "door")
            until(lambda: told.text("trtlab/door/watching") == "online")
            assert not pause.on
            told.say("trtlab/door/paused/set", "ON")
            until(lambda: told.text("trtlab/door/paused") == "ON")
            assert pause.on
            # By another switch: it is shown here too.
            pause.set(False)
            until(lambda: told.text("trtlab/door/paused") == "OFF")
            # What another process says of this source is taken back.
            told.say("trtlab/door/status", "offline", retain=True)
            until(lambda: told.all("trtlab/door/status")[-2:] == [b"offline", b"online"])
            assert pipeline.stop() == 0


def test_what_earlier_runs_have_left_is_removed_and_what_others_have_is_not(folder: Path) -> None:
    with Mosquitto(folder) as broker, listening(broker.port) as told:
        other = {"device": {"model": "pipeline another"}, "components": {}}
        told.say("homeassistant/device/trtlab/shed/config", json.dumps(other), retain=True)
        told.say("trtlab/shed/status", "offline", retain=True)
        # No label is named: kinds of things are announced as they come.
        many = ["person", "bicycle", "car", *(f"thing {number}" for number in range(30))]
        with running(config_of(folder, {"port": broker.port}, labels=many, default={})) as pipeline:
            until(lambda: "count:car" in told.json("homeassistant/device/trtlab/yard/config").get("components", {}))
            until(lambda: told.json("trtlab/yard/things").get("all", {}).get("car") == 1)
            # A source that is told to stop before it has found its broker tells it nothing.
            until(lambda: told.text("trtlab/door/status") == "online")
            assert "there:bicycle" not in told.text("homeassistant/device/trtlab/yard/config")
            assert pipeline.stop() == 0
        until(lambda: told.text("trtlab/door/status") == told.text("trtlab/yard/status") == "offline")
        default = {"labels": ["bicycle"]}
        with running(config_of(folder, {"port": broker.port}, names=("yard",), default=default)) as pipeline:
            until(lambda: not any("/door/" in topic for topic in told.topics() if not topic.endswith("/events")))
            # What removes a kind of thing stays, for a Home Assistant that is away.
            config = "homeassistant/device/trtlab/yard/config"
            until(lambda: told.json(config)["components"].get("count:car") == {"platform": "sensor"})
            assert "there:bicycle" in told.json(config)["components"]
            assert told.text("trtlab/shed/status") == "offline"
            assert told.json("homeassistant/device/trtlab/shed/config") == other
            assert pipeline.stop() == 0
