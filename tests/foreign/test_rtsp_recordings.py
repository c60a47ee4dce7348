"""A camera over RTSP that is recorded; and one that becomes another one: of another size and codec."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.testing import running
from pipeline.video.frame import Size
from tests.faults.load import until
from tests.foreign.test_rtsp import SERVER, free_port
from tests.integration.cameras import clip, config_of
from tests.integration.recorded import recorded
from tests.integration.test_sources import cameras

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(300)]

Serve = Callable[[Path, int], subprocess.Popen[Any]]


@pytest.fixture
def serve(started: Callable[..., subprocess.Popen[Any]]) -> Serve:
    """Has a server of RTSP send the films of a folder, by a port."""
    if not (SERVER / "bin/rtsp-server").is_file():
        pytest.skip("no server of RTSP: run `make build/rtsp-server/.there`")

    def serve(folder: Path, port: int) -> subprocess.Popen[Any]:
        arguments = ("-d", folder, "-H", "127.0.0.1", "-p", port, "-cp", free_port())
        env = {**os.environ, "PYTHONPATH": str(SERVER), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, str(SERVER / "bin/rtsp-server")]
        server = started(*arguments, command=command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: _answers(port))
        return server

    return serve


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_the_clip_of_an_event_has_the_camera_s_packets_from_a_key_frame_before_it_to_the_seconds_after_it(
    tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    clip(folder / "door.mp4", 1500, size=Size(320, 240), codec="libx264")
    port = free_port()
    serve(folder, port)
    # The event begins with the 16th frame that is looked at, some 3 s after the first one, and lasts for 5 frames.
    source = {"name": "door", "url": f"rtsp://127.0.0.1:{port}/door.mp4", "fps": 5}
    told = {"every": 100_000, "first": 15, "lasts": 5}
    with running(recorded(tmp_path, [source], told=told, before_s=2, after_s=1.5)) as pipeline:
        until(lambda: cameras(pipeline)["door"]["clips"] == 1)
        now = cameras(pipeline)["door"]
        assert (now["state"], now["unwritten"], now["reconnects"]) == ("connected", 0, 0)
        assert pipeline.stop() == 0
    (film,) = (tmp_path / "clips").glob("*.mp4")
    about = json.loads(film.with_suffix(".json").read_text())
    assert (about["camera"], about["reason"]) == ("door", "over")
    assert film.with_suffix(".jpg").is_file()
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        times = [float(packet.dts * packet.time_base) for packet in packets]
    assert packets[0].is_keyframe
    assert times == sorted(times)
    # 2 s before, an event of 1 s, 1.5 s after; a slow machine looks at fewer frames, so that the event lasts longer.
    assert times[-1] - times[0] >= 4.0
    with av.open(str(film)) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == len(packets)
    assert {(picture.width, picture.height) for picture in pictures} == {(320, 240)}


@pytest.mark.parametrize(("codec", "size"), [("libx264", Size(640, 480)), ("libx265", Size(320, 240))])
def test_a_camera_that_comes_back_with_another_size_or_codec_goes_on(
    tmp_path: Path, serve: Serve, codec: str, size: Size
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    film = clip(folder / "door.mp4", 1500, size=Size(320, 240), codec="libx264")
    port = free_port()
    server = serve(folder, port)
    source = {"name": "door", "url": f"rtsp://127.0.0.1:{port}/door.mp4", "fps": 5, "timeout_s": 3.0}
    with running(config_of(tmp_path, [source])) as pipeline:
        until(lambda: cameras(pipeline)["door"]["answered"] > 3)
        server.kill()
        server.wait()
        until(lambda: cameras(pipeline)["door"]["state"] == "reconnecting")
        film.unlink()
        clip(film, 1500, size=size, codec=codec)
        serve(folder, port)
        until(lambda: cameras(pipeline)["door"]["reconnects"] >= 1)
        before = cameras(pipeline)["door"]["answered"]
        until(lambda: cameras(pipeline)["door"]["answered"] > before + 3)
        now = cameras(pipeline)["door"]
        assert (now["state"], now["failed"]) == ("connected", 0)
        assert pipeline.stop() == 0
