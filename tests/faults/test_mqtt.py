"""What publishes cameras is killed, or the broker is, or it refuses them: the cameras do not notice, and it comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.versus.environments import MOSQUITTO
from pipeline.testing import running
from tests.faults.load import until
from tests.integration.brokers import Mosquitto, config_of, listening
from tests.integration.test_sources import cameras

pytestmark = pytest.mark.foreign

ChildOf = Callable[[int, str], psutil.Process | None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, environment: Callable[[Path], Path]) -> Path:
    environment(MOSQUITTO)
    return tmp_path


def test_a_source_that_is_killed_is_offline_at_once_and_back_and_the_other_does_not_notice(
    folder: Path, child_of: ChildOf
) -> None:
    with Mosquitto(folder) as broker, listening(broker.port) as told:
        with running(config_of(folder, {"port": broker.port})) as pipeline:
            until(lambda: all(told.text(f"trtlab/{name}/watching") == "online" for name in ("door", "yard")))
            for deaths in range(1, 4):
                source = child_of(pipeline.pid, "source/door")
                assert source is not None
                source.kill()
                # It says nothing itself: it is the broker that publishes its will.
                until(lambda deaths=deaths: told.all("trtlab/door/status").count(b"offline") == deaths)
                until(lambda: told.text("trtlab/door/status") == told.text("trtlab/door/watching") == "online")
            assert set(told.all("trtlab/yard/status")) == {b"online"}
            # What the last source knew is not taken for what is so now: each begins with an answer of its own.
            assert told.all("trtlab/door/watching").count(b"offline") >= 3
            assert pipeline.stop() == 0
        until(lambda: told.text("trtlab/door/status") == told.text("trtlab/yard/status") == "offline")


def test_a_broker_that_is_killed_and_started_again_is_told_all_and_no_camera_waits_for_it(folder: Path) -> None:
    with Mosquitto(folder) as broker, running(config_of(folder, {"port": broker.port}, names=("door",))) as pipeline:
        with listening(broker.port) as told:
            until(lambda: told.text("trtlab/door/watching") == "online" and told.raw("trtlab/door/snapshot"))
            there = told.topics()
        broker.kill()
        before = cameras(pipeline)["door"]
        until(lambda: cameras(pipeline)["door"]["answered"] > before["answered"] + 30)
        broker.start()
        with listening(broker.port) as told:
            # It has kept nothing, and is told all that there is.
            until(lambda: told.topics() >= there)
            until(lambda: told.text("trtlab/door/status") == "online")
        # Once for each reason, however often it was tried.
        said = [line for line in pipeline.log().splitlines() if "nothing is published: " in line]
        assert f"the broker 127.0.0.1:{broker.port} has closed the connection" in said[0]
        assert len(said) <= 2
        assert cameras(pipeline)["door"]["failed"] == 0
        assert pipeline.stop() == 0


def test_a_broker_that_is_there_and_takes_nothing_holds_no_camera_up(folder: Path) -> None:
    with Mosquitto(folder) as broker, running(config_of(folder, {"port": broker.port}, names=("door",))) as pipeline:
        with listening(broker.port) as told:
            until(lambda: told.text("trtlab/door/watching") == "online")
        broker.stop_taking()
        before = cameras(pipeline)["door"]["answered"]
        until(lambda: cameras(pipeline)["door"]["answered"] > before + 40)
        assert cameras(pipeline)["door"]["failed"] == 0
        # Its end does not wait for the broker either.
        assert pipeline.stop() == 0


def test_a_broker_that_refuses_the_login_is_told_of_once_and_tried_again_without_the_password_in_any_text(
    folder: Path,
) -> None:
    right, wrong = "p@ss w:rd/right", "p@ss w:rd/wrong"
    password = folder / "secret"
    password.write_text(f"{wrong}\n")
    with Mosquitto(folder, "home", right) as broker, listening(broker.port, "home", right) as told:
        mqtt = {"port": broker.port, "user": "home", "password_file": "secret"}
        with running(config_of(folder, mqtt, names=("door",))) as pipeline:
            until(lambda: "nothing is published" in pipeline.log())
            until(lambda: cameras(pipeline)["door"]["answered"] > 20)
            assert f"the broker 127.0.0.1:{broker.port} refuses user home: " in pipeline.log()
            assert pipeline.log().count("nothing is published") == 1
            refused_until = time.time()
            password.write_text(f"{right}\n")
            until(lambda: told.text("trtlab/door/status") == "online")
            # Events of the time before it was let in.
            until(lambda: told.all("trtlab/door/events"))
            assert json.loads(told.all("trtlab/door/events")[0])["start"] < refused_until
            texts = [pipeline.log(), json.dumps(pipeline.status()), *(each.decode() for each in told.all("trtlab/door/diagnostics"))]
            texts += [path.read_text(errors="replace") for path in pipeline.run_dir.rglob("*") if path.is_file()]
            for text in texts:
                assert "p@ss" not in text
            assert pipeline.stop() == 0
