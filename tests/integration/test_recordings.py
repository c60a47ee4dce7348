"""Recordings as a whole: a real file in place of a camera, through a run, into clips that can be played."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from pipeline.testing import running
from tests.faults.load import until
from tests.integration.cameras import JpegServer, clip
from tests.integration.recorded import recorded
from tests.integration.test_sources import cameras

Cli = Callable[..., Any]


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def length_of(path: Path) -> float:
    with av.open(str(path)) as container:
        times = [packet.dts * packet.time_base for packet in container.demux(video=0) if packet.size]
    return float(times[-1] - times[0])


def test_of_a_file_each_event_becomes_a_clip_and_a_snapshot(tmp_path: Path, cli: Cli) -> None:
    clip(tmp_path / "door.mp4", 200)
    # Events of 10 frames (0.4 s), 80 frames (3.2 s) apart; and key frames 12 frames apart, as the encoder chooses.
    config = recorded(tmp_path, [{"name": "door", "url": "door.mp4"}], told={"every": 80, "first": 60}, before_s=0.5, after_s=1)
    done = cli("run", config)
    assert done.code == 0, done.err
    found = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert found == [f"1.{number}-door-1.{kind}" for number in (1, 2) for kind in ("jpg", "json", "mp4")]
    about = json.loads((tmp_path / "clips" / "1.1-door-1.json").read_text())
    assert about == {"camera": "door", "events": ["1.1-door-1"], "reason": "over"}
    # 0.5 s before, 0.4 s of the event, 1 s after, and perhaps what is before that up to a key frame.
    assert 1.9 <= length_of(tmp_path / "clips" / "1.1-door-1.mp4") <= 2.5
    assert frames_of(tmp_path / "clips" / "1.2-door-1.mp4") >= 47
    with Image.open(tmp_path / "clips" / "1.1-door-1.jpg") as picture:
        assert picture.size == (64, 48)
    assert stat.S_IMODE((tmp_path / "clips").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "clips").iterdir()} == {0o600}


def test_a_live_camera_is_recorded_until_the_run_stops_and_its_last_clip_is_whole(tmp_path: Path) -> None:
    with JpegServer() as server:
        url = f"http://127.0.0.1:{server.port}/live"
        told = {"every": 100_000, "lasts": 50_000, "first": 30}
        with running(recorded(tmp_path, [{"name": "door", "url": url}], told=told, before_s=0.5)) as pipeline:
            until(lambda: list((tmp_path / "clips").glob(".*.part")))
            answered = cameras(pipeline)["door"]["answered"]
            until(lambda: cameras(pipeline)["door"]["answered"] > answered + 30)
            assert pipeline.stop() == 0
    (film,) = (tmp_path / "clips").glob("*.mp4")
    assert json.loads(film.with_suffix(".json").read_text())["reason"] == "stream"
    # JPEGs have no times of their own: the film is as long as it took.
    assert length_of(film) >= 1.2
    assert not list((tmp_path / "clips").glob(".*"))


def test_what_cannot_be_written_is_told_and_counted_and_the_camera_goes_on(tmp_path: Path) -> None:
    clip(tmp_path / "door.mp4", 500)
    (tmp_path / "clips").touch()
    source = {"name": "door", "url": "door.mp4", "drop": "oldest", "loop": True}
    config = recorded(tmp_path, [source], told={"every": 20, "lasts": 5}, before_s=0, after_s=0)
    with running(config) as pipeline:
        until(lambda: cameras(pipeline)["door"]["unwritten"] >= 2)
        until(lambda: "a snapshot cannot be written: " in pipeline.log())
        (tmp_path / "clips").unlink()
        until(lambda: cameras(pipeline)["door"]["clips"] >= 1)
        now = cameras(pipeline)["door"]
        assert (now["state"], now["failed"], now["reconnects"]) == ("connected", 0, 0)
        assert pipeline.log().count("a snapshot cannot be written: ") == 1
        assert pipeline.stop() == 0


@pytest.mark.parametrize(
    ("sources", "why"),
    [
        ([{"name": "door", "url": "synthetic"}], "a scene is drawn, and sends no packets that a clip could be made of"),
        ([], "there are no sources to record"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_starts(
    tmp_path: Path, cli: Cli, sources: list[dict[str, Any]], why: str
) -> None:
    done = cli("check", recorded(tmp_path, sources))
    assert done.code == 2
    assert why in done.err
