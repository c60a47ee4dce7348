"""A source is killed, or what it sends to: the other camera does not notice, no slot is lost, and of a file no frame."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from pipeline.client.status import ask_status
from pipeline.testing import running
from pipeline.wire.run_dir import runs
from tests.faults.load import until
from tests.integration.cameras import JpegServer, clip, config_of
from tests.integration.recorded import recorded
from tests.integration.test_sources import cameras

ChildOf = Callable[[int, str], psutil.Process | None]


def test_a_source_killed_under_load_is_started_again_and_leaves_no_slot(tmp_path: Path, child_of: ChildOf) -> None:
    sources = [
        {"name": "door", "url": "synthetic:?fps=200&size=64x48", "in_flight": 4},
        {"name": "yard", "url": "synthetic:?fps=20&size=64x48"},
    ]
    with running(config_of(tmp_path, sources, seconds=0.01)) as pipeline:
        until(lambda: all(cameras(pipeline)[name]["answered"] > 3 for name in ("door", "yard")))
        for _ in range(3):
            source = child_of(pipeline.pid, "source/door")
            assert source is not None
            before = cameras(pipeline)
            source.kill()
            enough = before["door"]["answered"] + 5
            until(lambda enough=enough: cameras(pipeline)["door"]["answered"] > enough)
            now = cameras(pipeline)
            # Counts go on over the deaths of its sources.
            assert now["door"]["frames"] > before["door"]["frames"]
            assert now["yard"]["answered"] > before["yard"]["answered"]
            assert (now["yard"]["state"], now["yard"]["failed"]) == ("connected", 0)
        assert "the source/door died (killed by signal 9 (SIGKILL)" in pipeline.log()
        # Of the dead no slot is out: what is, is what the two living ones may have inside, and one each in hand.
        until(lambda: all(pool["slots"] - pool["free"] <= 8 for pool in pipeline.status()["pools"]))
        until(lambda: len([client for client in pipeline.status()["clients"] if client["name"].startswith("source")]) == 2)
        assert pipeline.stop() == 0


@pytest.mark.foreign
def test_of_a_file_no_frame_is_lost_if_a_worker_and_the_scheduler_are_killed(
    tmp_path: Path, started: Callable[..., subprocess.Popen[Any]], child_of: ChildOf
) -> None:
    clip(tmp_path / "door.mp4", 300)
    config = config_of(tmp_path, [{"name": "door", "url": "door.mp4"}], seconds=0.01)
    output = tmp_path / "out.jsonl"
    with (tmp_path / "log").open("wb") as log:
        run = started("run", config, "--output", output, stdout=log, stderr=log)
    until(lambda: output.exists() and output.read_bytes().count(b"\n") > 20)
    (folder,) = runs("cameras")
    os.kill(ask_status(folder).stages[0].workers[0].pid, signal.SIGKILL)
    lines = output.read_bytes().count(b"\n")
    until(lambda: output.read_bytes().count(b"\n") > lines + 20)
    scheduler = child_of(run.pid, "scheduler")
    assert scheduler is not None
    scheduler.kill()
    assert run.wait(200) == 0, (tmp_path / "log").read_text()
    frames = [json.loads(line)["frame"] for line in output.read_text().splitlines()]
    assert frames == list(range(1, 301)), (tmp_path / "log").read_text()


def test_a_source_killed_in_the_middle_of_an_event_leaves_a_clip_that_can_be_played(tmp_path: Path, child_of: ChildOf) -> None:
    clips = tmp_path / "clips"
    with JpegServer() as server:
        sources = [{"name": "door", "url": f"http://127.0.0.1:{server.port}/live"}]
        told = {"every": 100_000, "lasts": 50_000, "first": 15}
        with running(recorded(tmp_path, sources, told=told, before_s=0.3)) as pipeline:
            until(lambda: list(clips.glob(".*.mp4.part")))
            (part,) = clips.glob(".*.mp4.part")
            until(lambda: part.stat().st_size > 20_000)
            source = child_of(pipeline.pid, "source/door")
            assert source is not None
            source.kill()
            film = clips / part.name[1 : -len(".part")]
            until(film.exists)
            assert not part.exists()
            # It is told behind that.
            until(lambda: f"a clip that was cut off: {film.name}" in pipeline.log())
            with av.open(str(film)) as container:
                assert sum(1 for _ in container.decode(video=0)) >= 5
            # And the next source records again.
            until(lambda: list(clips.glob(".*.mp4.part")))
            assert pipeline.stop() == 0
