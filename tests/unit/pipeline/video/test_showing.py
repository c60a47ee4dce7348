"""A source shows its camera: pictures only while one looks, no more than ten a second; its state each second."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StageFailed
from pipeline.graph.plan import CameraPlan, Edge
from pipeline.video import showing
from pipeline.video.frame import Frame, Size
from pipeline.video.gallery import Shown, read_shown, watch
from pipeline.video.pausing import FOLDER
from pipeline.video.showing import Gallery, picture_size
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts
from stages.spec import TensorSpec


class Picture:
    def __init__(self, size: Size | None = None) -> None:
        self.size = size or Size(64, 48)
        self.written = 0

    def write(self, pixels: Any) -> int:
        self.written += 1
        pixels[...] = 200
        return 0


def frame(number: int = 1, picture: Picture | None = None) -> Frame:
    return Frame(number, picture or Picture(), time.monotonic_ns(), 0.0)


def plan(shape: tuple[Any, ...] = (48, 64, 3)) -> Any:
    options = {"default": {"zones": {"near": [[0, 0], [1, 0], [1, 1]]}}}
    stage = SimpleNamespace(name="track", use="stages.video.track:Track", options=options)
    most = {"H": 720, "W": 1280}
    return SimpleNamespace(
        inputs=(TensorSpec("frame", "uint8", shape, {name: most[name] for name in shape if isinstance(name, str)}),),
        stages=(stage,), outputs=(("seen", Edge("track", "tracks")),), base_dir="/configs", config_path="edge.yaml",
    )  # fmt: skip


def gallery(folder: Path, **fields: Any) -> Gallery:
    return Gallery(folder, plan(**fields), CameraPlan("door", "door.mp4"))


def shown(folder: Path) -> Shown:
    found = read_shown(folder / FOLDER / "door.json")
    assert found is not None
    return found


def answer(*events: dict[str, Any], tracks: Any = ()) -> Told:
    return Told({"stream": 1, "time": 100.0, "looked": True, "tracks": list(tracks), "events": list(events)}, events)


def event(number: int, state: str = "begin", end: float | None = None) -> dict[str, Any]:
    return {"id": f"{number}.000-door-1", "rule": "object", "state": state, "start": float(number), "end": end}


def counts(**fields: Any) -> CameraCounts:
    base: dict[str, Any] = {
        "camera": "door", "state": "connected", "detail": "", "since": time.monotonic_ns(), "last_frame": time.monotonic_ns(),
        "frames": 5, "sent": 4, "answered": 3, "failed": 1, "dropped": {"older": 1}, "reconnects": 0, "copied": 0,
    }  # fmt: skip
    return CameraCounts(**{**base, **fields})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time of the observer, which tests move."""
    now = [1000.0]
    monkeypatch.setattr(showing.time, "monotonic", lambda: now[0])
    return now


def test_a_camera_is_known_before_its_first_frame(tmp_path: Path) -> None:
    gallery(tmp_path)
    found = shown(tmp_path)
    assert (found.state, found.stage, found.config, found.zones) == ("connecting", "track", "/configs/edge.yaml", {"near": [[0, 0], [1, 0], [1, 1]]})


def test_without_a_viewer_nothing_is_drawn(tmp_path: Path, clock: list[float]) -> None:
    picture, observer = Picture(), gallery(tmp_path)
    for number in range(1, 20):
        clock[0] += 1
        observer.answered("door", frame(number, picture), {}, answer())
    assert picture.written == 0
    assert not (tmp_path / FOLDER / "door.jpg").exists()


def test_with_a_viewer_ten_pictures_a_second_are_written_and_no_more(tmp_path: Path, clock: list[float]) -> None:
    picture, observer = Picture(), gallery(tmp_path)
    watch(tmp_path)
    for number in range(1, 51):
        clock[0] += 0.02
        observer.answered("door", frame(number, picture), {}, answer(tracks=[{"id": number}]))
    assert picture.written == 10
    found = shown(tmp_path)
    # The boxes are those of the picture.
    assert [track["id"] for track in found.tracks] == [found.pictured] == [46]
    with Image.open(tmp_path / FOLDER / "door.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_the_picture_is_the_frame_that_the_pipeline_has_with_its_black_edges(tmp_path: Path, clock: list[float]) -> None:
    observer = gallery(tmp_path, shape=(100, 200, 3))
    watch(tmp_path)
    observer.answered("door", frame(1, Picture(Size(100, 100))), {}, answer())
    with Image.open(io.BytesIO((tmp_path / FOLDER / "door.jpg").read_bytes())) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (100, 200, 3)
    assert pixels[:, :90].min() > 150
    assert pixels[:, 110:].max() < 40


def test_wide_frames_are_made_smaller_in_proportion() -> None:
    assert picture_size(Size(1920, 1080)) == (960, 540)
    assert picture_size(Size(960, 2000)) == (960, 2000)
    assert picture_size(Size(16000, 1)) == (960, 1)


def test_the_state_is_written_with_each_report(tmp_path: Path) -> None:
    observer = gallery(tmp_path)
    observer.answered("door", frame()._replace(arrived=time.monotonic_ns() - 30_000_000), {}, answer())
    observer.reported(counts())
    observer.reported(counts(state="reconnecting", detail="Connection refused", last_frame=0))
    found = shown(tmp_path)
    assert (found.state, found.detail, found.frames, found.dropped, found.last_frame) == ("reconnecting", "Connection refused", 5, {"older": 1}, 0)
    assert found.latency_ms >= 30
    assert abs(found.since - time.time()) < 60


def test_events_are_told_at_once_and_outlive_the_source(tmp_path: Path) -> None:
    observer = gallery(tmp_path)
    observer.answered("door", frame(), {}, answer(event(1), event(2)))
    observer.answered("door", frame(), {}, answer(event(1, "end", 7.0)))
    assert [(each["id"], each["end"]) for each in shown(tmp_path).events] == [("2.000-door-1", None), ("1.000-door-1", 7.0)]
    gallery(tmp_path)
    assert [(each["id"], each["state"]) for each in shown(tmp_path).events] == [("2.000-door-1", "end"), ("1.000-door-1", "end")]


def test_a_frame_without_an_answer_is_seen_without_boxes(tmp_path: Path, clock: list[float]) -> None:
    observer = gallery(tmp_path)
    watch(tmp_path)
    observer.answered("door", frame(1), {}, answer(tracks=[{"id": 1}]))
    clock[0] += 1
    observer.failed("door", frame(2), StageFailed("it broke"))
    found = shown(tmp_path)
    assert (found.pictured, found.tracks, found.error) == (2, [], "StageFailed")


def test_an_answer_without_tracks_is_seen_too(tmp_path: Path) -> None:
    observer = gallery(tmp_path)
    watch(tmp_path)
    observer.answered("door", frame(3), {"seen": np.zeros(3)}, Told())
    assert shown(tmp_path).pictured == 3


def test_a_folder_that_was_cleaned_away_is_made_anew(tmp_path: Path) -> None:
    import shutil

    observer = gallery(tmp_path)
    shutil.rmtree(tmp_path / FOLDER)
    observer.reported(counts())
    assert json.loads((tmp_path / FOLDER / "door.json").read_bytes())["state"] == "connected"


def test_of_a_document_in_another_form_the_tracks_and_the_picture_are_seen(tmp_path: Path) -> None:
    observer = gallery(tmp_path)
    watch(tmp_path)
    observer.answered("door", frame(7), {}, Told({"tracks": [{"id": 3}]}, wrong="the output tracks has no events"))
    assert (shown(tmp_path).pictured, shown(tmp_path).tracks) == (7, [{"id": 3}])
