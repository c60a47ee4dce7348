"""A camera that is paused, in a run: it is disconnected, nothing is read, and it goes on when it is switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.client.reloading import reload
from pipeline.testing import RunningPipeline, running
from tests.faults.load import until
from tests.integration.cameras import JpegServer, config_of
from tests.integration.test_sources import cameras

Cli = Callable[..., Any]


@contextmanager
def two_cameras(folder: Path) -> Iterator[tuple[RunningPipeline, JpegServer]]:
    """A run with the cameras door, which the server is, and yard; both have been looked at."""
    with JpegServer() as server:
        sources = [
            {"name": "door", "url": f"http://127.0.0.1:{server.port}/live"},
            {"name": "yard", "url": "synthetic:?fps=20&size=64x48"},
        ]
        with running(config_of(folder, sources)) as pipeline:
            until(lambda: all(camera["answered"] > 3 for camera in cameras(pipeline).values()))
            yield pipeline, server


def test_a_paused_camera_is_disconnected_and_goes_on_at_once(tmp_path: Path, cli: Cli) -> None:
    with two_cameras(tmp_path) as (pipeline, server):
        done = cli("pause", pipeline.run_dir.name, "door")
        assert (done.code, done.out) == (0, "door: paused\n"), done.err
        before = cameras(pipeline)
        assert before["door"]["state"] == "paused"
        asked = len(server.asked)
        until(lambda: cameras(pipeline)["yard"]["answered"] > before["yard"]["answered"] + 20)
        assert cameras(pipeline)["door"]["frames"] == before["door"]["frames"]
        assert len(server.asked) == asked
        assert 'trtlab_camera_paused{camera="door",pipeline="cameras"} 1.0' in cli("status", pipeline.run_dir.name, "--prometheus").out
        done = cli("resume", pipeline.run_dir.name)
        assert (done.code, done.out) == (0, "door: connected\nyard: connected\n"), done.err
        until(lambda: cameras(pipeline)["door"]["answered"] > before["door"]["answered"])
        assert len(server.asked) == asked + 1
        assert cameras(pipeline)["door"]["reconnects"] == 0
        # Nothing of it is trouble.
        assert f"connected to http://127.0.0.1:{server.port}" in pipeline.log()
        assert "warning" not in pipeline.log()
        assert pipeline.stop() == 0


@pytest.mark.timeout(120)
def test_a_paused_camera_stays_paused_when_a_new_version_takes_over(tmp_path: Path, cli: Cli) -> None:
    with two_cameras(tmp_path) as (pipeline, server):
        assert cli("pause", pipeline.run_dir.name, "door").code == 0
        asked = len(server.asked)
        reload(pipeline.run_dir)
        until(lambda: cameras(pipeline)["yard"]["answered"] > 3)
        assert cameras(pipeline)["door"]["state"] == "paused"
        assert cameras(pipeline)["door"]["frames"] == 0
        # The new version did not look, not even before it took over.
        assert len(server.asked) == asked
        done = cli("resume", pipeline.run_dir.name)
        assert (done.code, done.out) == (0, "door: connected\nyard: connected\n"), done.err
        reload(pipeline.run_dir)
        until(lambda: all(camera["answered"] > 3 for camera in cameras(pipeline).values()))
        assert pipeline.stop() == 0


def test_a_camera_that_the_run_has_not_is_refused(tmp_path: Path, cli: Cli) -> None:
    with running(config_of(tmp_path, [{"name": "yard", "url": "synthetic:?fps=20&size=64x48"}])) as pipeline:
        done = cli("pause", pipeline.run_dir.name, "door")
        assert done.code == 2
        assert "has no camera door: its cameras are yard" in done.err
