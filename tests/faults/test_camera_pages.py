"""A source or a gateway is killed while one looks at the cameras; and viewers that read nothing."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.titles import in_role
from pipeline.serving.cameras.live import MOST_VIEWERS
from pipeline.wire.run_dir import runs
from tests.faults.load import until
from tests.integration.gateways import Gateway, Http, serving
from tests.integration.tracked_cameras import PASSWORD, tracked_config


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv("SHED_PASSWORD", PASSWORD)
    with serving(tracked_config(tmp_path), errors=tmp_path / "log") as gateway:
        yield gateway


def camera(gateway: Gateway, name: str) -> dict[str, Any]:
    found = Http(gateway).get("/cameras/state")["cameras"]
    return next((each for each in found if each["camera"] == name), {})


def process(gateway: Gateway, role: str) -> psutil.Process:
    return in_role(gateway.process.pid, role, recursive=True)[0]


def pictures(gateway: Gateway, path: str) -> Iterator[bytes]:
    with httpx.stream("GET", gateway.url + path, timeout=200) as response:
        assert response.status_code == 200
        yield from response.iter_bytes()


def status(gateway: Gateway, path: str) -> int:
    # Of one that is let in, the answer does not end.
    with httpx.stream("GET", gateway.url + path, timeout=200) as response:
        return response.status_code


def test_a_source_killed_while_one_looks_is_shown_as_such_and_the_others_go_on(gateway: Gateway) -> None:
    until(lambda: bool(camera(gateway, "door").get("tracks")))
    before = {event["id"] for event in Http(gateway).get("/cameras/events")["events"]}
    assert {id.split("-")[1] for id in before} >= {"door"}
    stream = pictures(gateway, "/cameras/stream")
    next(stream)
    source = process(gateway, "source/door")
    # It cannot say that it is stopped; nothing but its silence does.
    source.send_signal(signal.SIGSTOP)
    until(lambda: camera(gateway, "door")["state"] == "silent")
    assert camera(gateway, "door")["age_s"] >= 2
    assert "has said nothing" in camera(gateway, "door")["detail"]
    assert camera(gateway, "yard")["state"] == "connected"
    source.kill()
    until(lambda: camera(gateway, "door")["state"] == "connected" and camera(gateway, "door")["age_s"] < 2)
    # The events of the source that was killed are there, and over.
    events = {event["id"]: event for event in Http(gateway).get("/cameras/events")["events"]}
    assert before <= events.keys()
    assert all(events[id]["end"] is not None or events[id]["state"] == "end" for id in before if "-door-" in id)
    # The viewer has been there all the time, and sees the new source.
    number = camera(gateway, "door")["pictured"]
    until(lambda: bool(next(stream)) and camera(gateway, "door")["pictured"] > number)
    stream.close()  # type: ignore[attr-defined]


def test_a_gateway_killed_while_one_looks_loses_nothing(gateway: Gateway) -> None:
    until(lambda: bool(camera(gateway, "door").get("tracks")))
    Http(gateway).post("/cameras/edge/yard/pause")
    stream = pictures(gateway, "/cameras/stream")
    next(stream)
    events = {event["id"] for event in Http(gateway).get("/cameras/events")["events"]}
    process(gateway, "gateway/0").kill()
    with pytest.raises(httpx.TransportError):
        for _ in stream:
            pass

    def back() -> bool:
        try:
            return bool(camera(gateway, "door").get("tracks"))
        except httpx.TransportError:
            return False

    until(back)
    # What was switched and seen is in the run's folder, not in the gateway.
    assert camera(gateway, "yard")["paused"]
    assert events <= {event["id"] for event in Http(gateway).get("/cameras/events")["events"]}
    again = pictures(gateway, "/cameras/edge/door/stream")
    assert b"image/jpeg" in next(again) + next(again)
    again.close()  # type: ignore[attr-defined]


@pytest.mark.foreign
def test_viewers_that_read_nothing_are_bounded_and_hold_no_camera_up(gateway: Gateway) -> None:
    until(lambda: bool(camera(gateway, "door").get("tracks")))
    host, port = gateway.url.partition("://")[2].split(":")
    idle = []
    try:
        for _ in range(MOST_VIEWERS):
            idle.append(socket.create_connection((host, int(port))))
            idle[-1].sendall(b"GET /cameras/edge/door/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: status(gateway, "/cameras/edge/door/stream") == 503)
        answered = camera(gateway, "door")["answered"]
        until(lambda: camera(gateway, "door")["answered"] > answered + 5)
    finally:
        for each in idle:
            each.close()
    # Their places are free once they are gone.
    until(lambda: b"--frame" in next(pictures(gateway, "/cameras/edge/door/stream"), b""))
    # And without a viewer no picture is written.
    (run,) = runs("edge")
    picture = run / "cameras/door.jpg"
    until(lambda: time.time() - picture.stat().st_mtime > 4)


def test_no_password_of_a_camera_is_shown(gateway: Gateway, tmp_path: Path) -> None:
    until(lambda: camera(gateway, "shed").get("state") == "reconnecting")
    for path in ("/cameras/state", "/cameras/events", "/cameras/edge/shed/zones"):
        assert PASSWORD not in Http(gateway).request("GET", path).text
    (run,) = runs("edge")
    assert all(PASSWORD.encode() not in path.read_bytes() for path in (run / "cameras").iterdir())
    assert PASSWORD not in (tmp_path / "log").read_text()
