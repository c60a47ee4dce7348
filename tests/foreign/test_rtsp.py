"""A real server of RTSP, which is killed and started again: its camera comes back, and the other one does not notice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing import running
from pipeline.video.frame import Size
from tests.conftest import ROOT
from tests.faults.load import until
from tests.integration.cameras import clip, config_of
from tests.integration.test_sources import cameras

pytestmark = pytest.mark.foreign

SERVER = ROOT / "build/rtsp-server"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_camera_over_rtsp_is_killed_and_comes_back(tmp_path: Path, started: Callable[..., subprocess.Popen[Any]]) -> None:
    if not (SERVER / "bin/rtsp-server").is_file():
        pytest.skip("no server of RTSP: run `make build/rtsp-server/.there`")
    folder = tmp_path / "clips"
    folder.mkdir()
    clip(folder / "door.mp4", 1500, size=Size(320, 240), codec="libx264")
    port = free_port()
    command = [sys.executable, str(SERVER / "bin/rtsp-server")]
    env = {**os.environ, "PYTHONPATH": str(SERVER), "PYTHONWARNINGS": "ignore"}
    arguments = ("-d", folder, "-H", "127.0.0.1", "-p", port, "-cp", free_port())
    silent = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = started(*arguments, command=command, **silent)
    sources = [
        {"name": "door", "url": f"rtsp://127.0.0.1:{port}/door.mp4", "fps": 5, "timeout_s": 3.0},
        {"name": "yard", "url": "synthetic:?fps=20&size=64x48"},
    ]
    with running(config_of(tmp_path, sources)) as pipeline:
        until(lambda: cameras(pipeline)["door"]["answered"] > 3)
        found = cameras(pipeline)["door"]
        # One of five is wanted.
        assert found["dropped"]["rate"] > found["answered"]
        server.kill()
        server.wait()
        until(lambda: cameras(pipeline)["door"]["state"] == "reconnecting")
        before, yard = cameras(pipeline)["door"], cameras(pipeline)["yard"]
        started(*arguments, command=command, **silent)
        # What was inside is answered before.
        until(lambda: cameras(pipeline)["door"]["reconnects"] >= 1)
        until(lambda: cameras(pipeline)["door"]["answered"] > before["answered"] + 3)
        now = cameras(pipeline)
        assert (now["yard"]["state"], now["yard"]["reconnects"], now["yard"]["failed"]) == ("connected", 0, 0)
        assert now["yard"]["answered"] > yard["answered"]
        assert pipeline.stop() == 0
