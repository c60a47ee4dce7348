"""A real Home Assistant finds the cameras of a real run through a real broker, and loses what is no more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.titles import in_role
from bench.versus.environments import HOME_ASSISTANT, MOSQUITTO
from pipeline.testing import running
from pipeline.video.pausing import Pause
from tests.conftest import ROOT
from tests.faults.load import until
from tests.integration.brokers import Mosquitto, config_of

pytestmark = pytest.mark.foreign

SEEN = {
    "binary_sensor": ["person", "car", "front_porch_person", "front_porch_car"],
    "sensor": ["person_count", "car_count", "front_porch_person_count", "front_porch_car_count"],
    "event": ["events"],
    "camera": ["best_snapshot"],
}
ABOUT = {
    "sensor": ["state", "frame_rate", "frame_age", "dropped_frames", "failed_frames", "reconnects", "last_frame"],
    "switch": ["paused"],
}


def entities(camera: str, *kinds: dict[str, list[str]]) -> set[str]:
    return {f"{platform}.{camera}_{name}" for kind in kinds for platform, names in kind.items() for name in names}


class Home:
    """Home Assistant's core, as a process that answers questions (home.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, *question: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def states(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.ask("states")
        return found

    def state(self, entity: str) -> str | None:
        return self.states().get(entity, {}).get("state")


@contextmanager
def home_at(port: int, python: Path, folder: Path) -> Iterator[Home]:
    with (folder / "home.log").open("w") as log, subprocess.Popen(
        [python, ROOT / "tests/foreign/home.py", folder, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
    ) as process:  # fmt: skip
        try:
            yield Home(process)
        finally:
            process.kill()


def test_home_assistant_finds_cameras_shows_what_they_see_and_loses_those_that_are_gone(
    tmp_path: Path, environment: Callable[[Path], Path]
) -> None:
    environment(MOSQUITTO)
    python = environment(HOME_ASSISTANT) / "bin/python"
    folder = tmp_path / "home"
    folder.mkdir()
    with Mosquitto(tmp_path) as broker, home_at(broker.port, python, folder) as home:
        with running(config_of(tmp_path, {"port": broker.port})) as pipeline:
            both = entities("door", SEEN, ABOUT) | entities("yard", SEEN, ABOUT)
            until(lambda: home.states().keys() >= both)
            assert home.states().keys() == both
            # What the cameras see. The car stands; the person comes and goes.
            until(lambda: home.state("binary_sensor.yard_front_porch_car") == "on")
            until(lambda: {"on", "off"} <= set(home.ask("had", "binary_sensor.door_person")))
            until(lambda: {"0", "1"} <= set(home.ask("had", "sensor.door_front_porch_person_count")))
            until(lambda: {"object", "enter", "enter_end", "object_end"} <= set(home.ask("had", "event.door_events")))
            until(lambda: (home.state("sensor.door_frame_rate") or "unknown")[0].isdigit())
            found = home.states()
            assert (found["binary_sensor.door_car"]["state"], found["sensor.yard_car_count"]["state"]) == ("off", "1")
            assert found["binary_sensor.door_car"]["class"] == "occupancy"
            assert found["sensor.door_state"] == {
                "state": "connected", "class": "enum", "category": "diagnostic", "device": "door by trtlab, pipeline house",
            }  # fmt: skip
            first, size = home.ask("picture", "camera.door_best_snapshot")
            assert (first, size > 500) == ("ffd8ff", True)
            # Its switch.
            home.ask("call", "switch.door_paused", "turn_on")
            until(lambda: home.state("switch.door_paused") == "on")
            assert Pause(pipeline.run_dir, "door").on
            assert not Pause(pipeline.run_dir, "yard").on
            home.ask("call", "switch.door_paused", "turn_off")
            until(lambda: home.state("switch.door_paused") == "off")
            # One source is killed: its camera is unavailable, and no other.
            yard = len(home.ask("had", "binary_sensor.yard_car"))
            until(lambda: home.state("binary_sensor.door_person") in ("on", "off"))
            door = len(home.ask("had", "binary_sensor.door_person"))
            in_role(pipeline.pid, "source/door")[0].kill()
            until(lambda: "unavailable" in home.ask("had", "binary_sensor.door_person")[door:])
            until(lambda: home.state("binary_sensor.door_person") in ("on", "off"))
            assert "unavailable" not in home.ask("had", "binary_sensor.yard_car")[yard:]
            assert pipeline.stop() == 0
        until(lambda: {each["state"] for each in home.states().values()} == {"unavailable"})
        # A camera is gone from the config, and so is a kind of thing, a zone, and the snapshots.
        default = {"labels": ["person"]}
        config = config_of(tmp_path, {"port": broker.port, "snapshots": False}, names=("door",), default=default)
        with running(config) as pipeline:
            left = {"binary_sensor": ["person"], "sensor": ["person_count"], "event": ["events"]}
            until(lambda: home.states().keys() == entities("door", left, ABOUT))
            until(lambda: home.state("binary_sensor.door_person") in ("on", "off"))
            assert pipeline.stop() == 0
    log = (folder / "home.log").read_text()
    assert "discovery" not in log.lower()
    assert "template" not in log.lower()
