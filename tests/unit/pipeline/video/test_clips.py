from __future__ import annotations

import fcntl
import json
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.video.clips import Clip, Recorder, file_name, write_snapshot
from pipeline.video.recording import RecordOptions
from pipeline.video.tracks import Told

FRAMES, FPS = 40, 10
#: A key frame for each second, and none because a picture differs much from the one before.
CODING = {"g": "10", "bf": "0", "sc_threshold": "1000000000"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, a key frame each second; each frame is a little brighter than the one before."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS, options=CODING)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def source(film: Path) -> Iterator[tuple[Any, list[Any]]]:
    """The stream of a camera, and its packets."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        yield stream, [packet for packet in container.demux(stream) if packet.size]


def brightness(path: Path) -> list[int]:
    """Of each frame of a film, as the number of the frame that it was."""
    with av.open(str(path)) as container:
        return [round(float(frame.to_ndarray(format="rgb24").mean()) / 5) for frame in container.decode(video=0)]


def event(number: int, state: str, start: float = 0.0, best: int | None = None) -> dict[str, Any]:
    found = None if best is None else {"sequence": best, "time": 1000.0}
    return {"id": f"{number}.000-door-1", "state": state, "rule": "object", "start": start, "best": found}


PIXELS = np.full((10, 20, 3), 80, np.uint8)


def tell(recorder: Recorder, now: float, *events: dict[str, Any]) -> None:
    """The answer to a frame of the number 7."""
    recorder.answered(Told({"sequence": 7, "time": now}, events), lambda: PIXELS)


def recorder(folder: Path, said: list[str] | None = None, keep_s: float = 1e6, **options: Any) -> Recorder:
    return Recorder("door", folder, RecordOptions(**options), keep_s, 1 << 30, (said if said is not None else []).append)


def test_the_packets_around_an_event_become_a_film_that_can_be_played(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    made = recorder(tmp_path / "clips", before_s=0.5, after_s=0.5)
    made.opened(stream)
    for number, packet in enumerate(packets):
        now = 1000 + number / FPS
        made.packet(packet, now)
        if number == 18:
            tell(made, now, event(1, "begin", start=now))
        elif number == 25:
            tell(made, now, event(1, "end"))
    clip = tmp_path / "clips" / "1.000-door-1.mp4"
    # From the key frame before 13 on, until half a second after 25.
    assert brightness(clip) == pytest.approx(list(range(10, 31)), abs=1)
    with av.open(str(clip)) as container:
        (key, *_) = container.demux(video=0)
        assert (key.is_keyframe, key.dts) == (True, 0)
    about = json.loads(clip.with_suffix(".json").read_text())
    assert about == {"camera": "door", "events": ["1.000-door-1"], "reason": "over"}
    assert sorted(path.name for path in clip.parent.iterdir()) == ["1.000-door-1.json", "1.000-door-1.mp4"]


def test_all_files_are_for_this_user_alone(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    made = recorder(tmp_path / "clips")
    made.opened(stream)
    made.packet(packets[0], 1000.0)
    tell(made, 1000.0, event(1, "begin", best=7))
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "clips").iterdir()} == {0o600}
    made.ended()
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "clips").iterdir()}
    assert modes == {".mp4": 0o600, ".json": 0o600, ".jpg": 0o600}
    assert stat.S_IMODE((tmp_path / "clips").stat().st_mode) == 0o700


def test_two_clips_may_have_the_same_packets(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    for name in ("a", "b"):
        clip = Clip(tmp_path / f"{name}.mp4", stream)
        for packet in packets[10:20]:
            clip.write(packet)
        clip.close()
        assert clip.left_out == 0
    assert brightness(tmp_path / "a.mp4") == brightness(tmp_path / "b.mp4")


def test_packets_whose_times_do_not_rise_are_left_out_and_counted(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    clip = Clip(tmp_path / "a.mp4", stream)
    for packet in [*packets[10:15], packets[12], packets[14], *packets[15:20]]:
        clip.write(packet)
    clip.close()
    assert clip.left_out == 2
    assert len(brightness(tmp_path / "a.mp4")) == 10


def test_a_clip_that_a_killed_process_was_writing_is_there_and_can_be_played(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    killed = recorder(tmp_path)
    killed.opened(stream)
    killed.packet(packets[0], 1000.0)
    tell(killed, 1000.0, event(7, "begin"))
    for number, packet in enumerate(packets[1:25]):
        killed.packet(packet, 1000 + number / FPS)
    (part,) = tmp_path.iterdir()
    # What a kill leaves is what the kernel has of the file; another camera's parts are not touched.
    left = part.read_bytes()
    other = tmp_path / ".7.000-back-door-1.mp4.part"
    other.touch()
    killed.ended()
    (tmp_path / "7.000-door-1.mp4").unlink()
    part.write_bytes(left)
    recorder(tmp_path)
    assert other.exists()
    assert not part.exists()
    assert brightness(tmp_path / "7.000-door-1.mp4")[:10] == pytest.approx(list(range(10)), abs=1)


def test_a_new_connection_ends_the_clip(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    made = recorder(tmp_path)
    made.opened(stream)
    for packet in packets[:12]:
        made.packet(packet, 1000.0)
    tell(made, 1000.0, event(1, "begin"))
    made.opened(stream)
    assert len(brightness(tmp_path / "1.000-door-1.mp4")) == 12
    assert json.loads((tmp_path / "1.000-door-1.json").read_text())["reason"] == "stream"


def test_a_clip_that_cannot_be_written_is_told_and_the_next_one_is_tried(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    said: list[str] = []
    made = recorder(tmp_path / "clips", said, after_s=0)
    made.opened(stream)
    made.packet(packets[0], 1000.0)
    blocking = tmp_path / "clips" / ".1.000-door-1.mp4.part"
    blocking.mkdir()
    tell(made, 1000.0, event(1, "begin"), event(1, "end"))
    made.packet(packets[1], 1001.0)
    assert len(said) == 1
    assert said[0].startswith("a clip cannot be written: ")
    tell(made, 1001.0, event(2, "begin"), event(2, "end"))
    made.packet(packets[2], 1002.0)
    assert (tmp_path / "clips" / "2.000-door-1.mp4").exists()
    assert len(said) == 1


def test_a_camera_whose_codec_no_clip_can_have_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    film = tmp_path / "raw.nut"
    with av.open(str(film), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
    said: list[str] = []
    made = recorder(tmp_path / "clips", said)
    with av.open(str(film)) as container:
        made.opened(container.streams.video[0])
        for number, packet in enumerate(container.demux(video=0)):
            made.packet(packet, 1000.0 + number)
            if not number:
                tell(made, 1000.0, event(1, "begin"))
    made.ended()
    assert said == ["a clip cannot be written: 'mp4' format does not support 'rawvideo' codec"]
    assert list((tmp_path / "clips").iterdir()) == []


def test_files_that_are_too_old_are_deleted_when_a_clip_is_whole_and_nothing_else_is(
    tmp_path: Path, source: Any
) -> None:
    stream, packets = source
    for name in ("old.mp4", "old.jpg", "old.json", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    made = recorder(tmp_path, keep_s=60, after_s=0)
    made.opened(stream)
    # An hour from now, by the clock of the files.
    later = (tmp_path / "old.mp4").stat().st_mtime + 3600
    made.packet(packets[0], later)
    tell(made, later, event(1, "begin"), event(1, "end"))
    made.tick(later + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden.mp4", "notes.txt"]


def test_a_snapshot_replaces_the_one_before_it(tmp_path: Path) -> None:
    for shade in (10, 200):
        write_snapshot(tmp_path / "a.jpg", np.full((30, 40, 3), shade, np.uint8))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.size, picture.format) == ((40, 30), "JPEG")
        assert np.asarray(picture).mean() == pytest.approx(200, abs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_the_frame_that_shows_a_thing_best_becomes_the_snapshot_of_its_event(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    tell(made, 1000.0, event(1, "begin", best=7), event(2, "begin", best=6), event(3, "begin"))
    # A frame of another stream with the same number.
    tell(made, 2000.0, event(4, "begin", best=7))
    assert [path.name for path in tmp_path.iterdir()] == ["1.000-door-1.jpg"]
    with Image.open(tmp_path / "1.000-door-1.jpg") as picture:
        assert picture.size == (20, 10)


def test_a_frame_that_shows_nothing_best_is_not_asked_for(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    made.answered(Told({"sequence": 7, "time": 1000.0}, [event(1, "begin", best=6)]), lambda: 1 / 0)
    made.answered(Told(), lambda: 1 / 0)


def test_snapshots_that_cannot_be_written_are_told_once_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    made = recorder(tmp_path, said)
    for number in (1, 2):
        (tmp_path / f"{number}.000-door-1.jpg").mkdir()
        tell(made, 1000.0, event(number, "begin", best=7))
    assert said == ["a snapshot cannot be written: Is a directory"]
    assert made.unwritten == 2


def test_snapshots_are_of_the_rules_that_are_recorded(tmp_path: Path) -> None:
    made = recorder(tmp_path, rules=frozenset(["enter"]))
    tell(made, 1000.0, event(1, "begin", best=7), {**event(2, "begin", best=7), "rule": "enter"})
    assert [path.name for path in tmp_path.iterdir()] == ["2.000-door-1.jpg"]


def test_a_folder_that_cannot_be_made_is_told_and_one_that_can_be_later_is_used(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    said: list[str] = []
    (tmp_path / "disk").touch()
    made = recorder(tmp_path / "disk" / "clips", said, after_s=0)
    assert said == [f"{tmp_path}/disk/clips cannot be written to: Not a directory"]
    made.opened(stream)
    made.packet(packets[0], 1000.0)
    tell(made, 1000.0, event(1, "begin"), event(1, "end"))
    assert made.unwritten == 1
    made.packet(packets[1], 1001.0)
    (tmp_path / "disk").unlink()
    tell(made, 1002.0, event(2, "begin"), event(2, "end"))
    made.tick(1003.0)
    assert (tmp_path / "disk" / "clips" / "2.000-door-1.mp4").exists()
    assert (made.clips, made.unwritten) == (1, 1)


def test_a_clip_that_a_living_process_is_writing_keeps_its_name(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    made = recorder(tmp_path)
    made.opened(stream)
    made.packet(packets[0], 1000.0)
    tell(made, 1000.0, event(1, "begin"))
    (part,) = tmp_path.iterdir()
    recorder(tmp_path)
    assert part.exists()
    made.ended()
    assert (tmp_path / "1.000-door-1.mp4").exists()


def test_what_a_killed_process_has_left_of_pictures_and_json_is_removed_and_nothing_of_others(tmp_path: Path) -> None:
    left = [tmp_path / f".7.000-door-1{kind}.part" for kind in (".jpg", ".json")]
    others = [tmp_path / name for name in (
        ".7.000-back-door-1.jpg.part", ".7.000-door-side-1.json.part", ".7.000-door-1.txt.part", "7.000-door-1.jpg",
    )]  # fmt: skip
    for path in (*left, *others):
        path.touch()
    said: list[str] = []
    recorder(tmp_path, said)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    assert said == []


def test_a_picture_that_a_living_process_is_writing_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorder(tmp_path)
    replace, parts = Path.replace, []

    def slowly(self: Path, target: Path) -> Path:
        # Another process of this camera begins while all but the name is there.
        recorder(tmp_path)
        parts.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slowly)
    tell(made, 1000.0, event(1, "begin", best=7))
    assert (parts, made.unwritten) == ([".1.000-door-1.jpg.part"], 0)
    with Image.open(tmp_path / "1.000-door-1.jpg") as picture:
        assert picture.size == (20, 10)


def test_a_picture_whose_part_is_removed_before_it_is_locked_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorder(tmp_path)
    lock, removed = fcntl.flock, []

    def late(file: Any, operation: int) -> None:
        if not removed:
            removed.extend(tmp_path.glob(".*.part"))
            removed[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    tell(made, 1000.0, event(1, "begin", best=7))
    assert (len(removed), made.unwritten) == (1, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["1.000-door-1.jpg"]


def test_a_clip_ends_after_the_event_of_a_stream_that_is_lost(tmp_path: Path, source: Any) -> None:
    stream, packets = source
    made = recorder(tmp_path, after_s=2)
    made.opened(stream)
    made.packet(packets[0], 1000.0)
    tell(made, 1000.0, event(1, "begin"))
    # The worker has died: the camera's packets go on, and with the first answer of another stream the event has ended.
    tell(made, 1001.0, event(1, "end"))
    for number, packet in enumerate(packets[1:7]):
        made.packet(packet, 1001.0 + number)
    assert len(brightness(tmp_path / "1.000-door-1.mp4")) == 4


@pytest.mark.parametrize(
    ("event", "name"),
    [("1.5-door-3", "1.5-door-3"), ("../../etc/x", "_.._etc_x"), ("1.5-Tür/1", "1.5-T_r_1"), ("..", "")],
)
def test_the_name_of_a_file_never_leads_out_of_its_folder(event: str, name: str) -> None:
    assert file_name(event) == name


def test_a_snapshot_for_which_the_disk_has_no_room_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    made = recorder(tmp_path / "clips", said)
    # As on a disk that is full in the middle of it: a file may have so many bytes.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        tell(made, 1000.0, event(1, "begin", best=7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert said == ["a snapshot cannot be written: File too large"]
    assert list((tmp_path / "clips").iterdir()) == []
