"""Pictures by PyAV, of real files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config.camera_urls import Kind, Target
from pipeline.graph.plan import CameraPlan
from pipeline.video.decoder import CameraFailed, open_camera
from pipeline.video.frame import Size
from tests.integration.cameras import clip, picture

SIZE = Size(64, 48)


def target(path: Path | str, kind: Kind = Kind.FILE) -> Target:
    return Target(kind, str(path), (), str(path))


def plan(**fields: object) -> CameraPlan:
    return CameraPlan("door", "", **fields)  # type: ignore[arg-type]


def test_every_frame_of_a_file_comes_with_its_time_and_its_picture(tmp_path: Path) -> None:
    decoder = open_camera(target(clip(tmp_path / "a.mp4", 30)), plan())
    try:
        found = [read for read in decoder if read.picture is not None]
    finally:
        decoder.close()
    assert [round(read.at * 25) for read in found] == list(range(30))
    pixels = np.zeros((48, 64, 3), np.uint8)
    for number in (0, 29):
        decoded = found[number].picture
        assert decoded is not None
        assert decoded.size == SIZE
        assert decoded.write(pixels) == pixels.nbytes
        # The codec is lossy; the picture is this one all the same.
        assert np.abs(pixels.astype(int) - picture(number)).mean() < 12


def test_frames_of_a_raw_stream_which_has_no_times_come_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    decoder = open_camera(target(path), plan())
    times = [read.at for read in decoder if read.picture is not None]
    decoder.close()
    assert len(times) == 10
    assert np.diff(times) == pytest.approx(1 / 10)


def test_a_picture_is_scaled_into_a_part_of_a_slot(tmp_path: Path) -> None:
    decoder = open_camera(target(clip(tmp_path / "a.mp4", 1, size=Size(128, 96))), plan())
    (decoded,) = [read.picture for read in decoder if read.picture is not None]
    decoder.close()
    assert decoded is not None
    pixels = np.full((50, 80, 3), 9, np.uint8)
    decoded.write(pixels[:48, :64])
    assert np.abs(pixels[:48, :64].astype(int) - picture(0)).mean() < 15
    assert (pixels[48:] == 9).all()
    assert (pixels[:, 64:] == 9).all()


@pytest.mark.parametrize("size", [Size(64, 48), Size(48, 36), Size(32, 24), Size(16, 16), Size(100, 90)])
def test_a_picture_keeps_its_colours_in_whatever_size(tmp_path: Path, size: Size) -> None:
    decoder = open_camera(target(clip(tmp_path / "a.mp4", 1, size=Size(64, 48))), plan())
    (decoded,) = [read.picture for read in decoder if read.picture is not None]
    decoder.close()
    assert decoded is not None
    pixels = np.zeros((size.height, size.width, 3), np.uint8)
    decoded.write(pixels)
    with Image.fromarray(picture(0, Size(64, 48))) as whole:
        wanted = np.asarray(whole.resize(size, Image.Resampling.BOX)).astype(int)
    # Levels of each colour: not swapped, no darker; the codec is lossy.
    assert np.abs(pixels.mean((0, 1)) - wanted.mean((0, 1))).max() < 4


def test_of_key_frames_only_they_alone_come_and_a_recorder_has_all_packets(tmp_path: Path) -> None:
    decoder = open_camera(target(clip(tmp_path / "a.mp4", 30, codec="libx264")), plan(decode="keys"))
    packets: list[bool] = []
    decoder.tap = lambda packet, at: packets.append(packet.is_keyframe)
    found = [read for read in decoder if read.picture is not None]
    decoder.close()
    assert len(packets) == 30
    assert len(found) == sum(packets) < 30


def test_without_the_loop_filter_all_frames_come_a_little_different(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 30, size=Size(320, 240), codec="libx264")

    def last(decode: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        decoder = open_camera(target(path), plan(decode=decode))
        found = [read.picture for read in decoder if read.picture is not None]
        pixels = np.zeros((240, 320, 3), np.uint8)
        assert len(found) == 30
        assert found[-1] is not None
        found[-1].write(pixels)
        decoder.close()
        return pixels.astype(np.int64)

    difference = np.abs(last("unfiltered") - last("all")).mean()
    assert 0 < difference < 10


_CLOSED_AGAIN = """
import sys
from pipeline.config.camera_urls import Kind, Target
from pipeline.graph.plan import CameraPlan
from pipeline.video.decoder import open_camera

for _ in range(5):
    decoder = open_camera(Target(Kind.FILE, sys.argv[1], (), ""), CameraPlan("door", ""))
    for number, _ in enumerate(decoder):
        if number == 20:
            break
    decoder.close()
"""


def test_a_file_is_closed_while_ffmpegs_threads_decode_it(tmp_path: Path) -> None:
    # If they had to wait for Python, to say something, Python would wait for them for ever. In a process of its own, since
    # nothing else runs in one that hangs like this.
    path = clip(tmp_path / "a.mp4", 100, size=Size(320, 240), codec="libx264")
    command = [sys.executable, "-c", _CLOSED_AGAIN, str(path)]
    subprocess.run(command, check=True, timeout=90)


def test_a_damaged_packet_is_told_and_the_others_come(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 60, codec="libx264")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[20]
    assert start is not None
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    decoder = open_camera(target(path), plan())
    found = list(decoder)
    decoder.close()
    assert sum(read.damaged for read in found) > 0
    assert sum(read.picture is not None for read in found) > 30


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_refused_without_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret-name.mp4"
    path.write_bytes(content)
    with pytest.raises(CameraFailed) as failed:
        open_camera(target(path), plan())
    assert "secret-name" not in str(failed.value)


def test_a_playlist_that_names_a_file_of_this_machine_opens_nothing(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", 5)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(CameraFailed):
        open_camera(target(tmp_path / "list.m3u8"), plan())


def test_a_kind_of_device_that_this_ffmpeg_lacks_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(CameraFailed, match=r"abacus is no kind of device of this FFmpeg, which has: \w+"):
        open_camera(target(clip(tmp_path / "a.mp4", 1)), plan(decoder="abacus"))
