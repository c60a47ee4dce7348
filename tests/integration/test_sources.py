"""Cameras as a whole: files, JPEGs over HTTP and scenes, read by processes of their own, through a real pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing import RunningPipeline, running
from pipeline.video.frame import Size
from pipeline.wire.run_dir import runs
from tests.faults.load import until
from tests.integration.cameras import JpegServer, clip, config_of

Cli = Callable[..., Any]


def cameras(pipeline: RunningPipeline) -> dict[str, dict[str, Any]]:
    return {camera["name"]: camera for camera in pipeline.status()["cameras"]}


def test_of_files_no_frame_is_lost_and_the_run_ends_with_the_last(tmp_path: Path, cli: Cli) -> None:
    clip(tmp_path / "door.mp4", 40)
    clip(tmp_path / "yard.mp4", 30, size=Size(128, 48))
    sources = [{"name": "door", "url": "door.mp4"}, {"name": "yard", "url": "yard.mp4", "fps": 10}]
    config = config_of(tmp_path, sources, seconds=0.005)
    done = cli("run", config, "--output", tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    assert "source/door | ended; 40 frames, 40 answered, 0 failed\n" in done.err
    assert "source/yard | ended; 30 frames, 12 answered, 0 failed, 18 dropped (rate)\n" in done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    door, yard = ([line for line in lines if line["camera"] == name] for name in ("door", "yard"))
    assert [line["frame"] for line in door] == list(range(1, 41))
    names = [line["outputs"]["seen"][0].split("@") for line in door]
    assert {name for name, _ in names} == {"door"}
    # By the film's own time, 25 frames a second, however fast it was read.
    assert float(names[-1][1]) - float(names[0][1]) == pytest.approx(39 / 25, abs=0.01)
    # 64 x 24 of 64 x 48: the proportions are kept, and the rest is black.
    assert yard[0]["outputs"]["seen"][3] == pytest.approx(door[0]["outputs"]["seen"][3] / 2, rel=0.2)
    # Each camera is a stream of its own, in the order of its frames.
    assert {line["outputs"]["seen"][1] for line in door} & {line["outputs"]["seen"][1] for line in yard} == set()
    assert [line["outputs"]["seen"][2] for line in door] == list(range(1, 41))
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_camera_of_thirty_frames_a_second_does_not_starve_one_of_two(tmp_path: Path, cli: Cli) -> None:
    # The stage manages ten frames each second, of the 32 that come; each waits for another one's, if there is none yet.
    sources = [
        {"name": "fast", "url": "synthetic:?fps=30&frames=90&size=64x48"},
        {"name": "slow", "url": "synthetic:?fps=2&frames=6&size=64x48"},
    ]
    done = cli("run", config_of(tmp_path, sources, seconds=0.1, delay_ms=200), "--output", tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    (fast,) = [line for line in done.err.splitlines() if line.startswith("source/fast | ended; 90 frames")]
    assert "dropped (older)" in fast
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    orders = {name: [line["frame"] for line in lines if line["camera"] == name] for name in ("fast", "slow")}
    assert all(order == sorted(order) for order in orders.values())
    # On a machine that is busy for half a second, a frame of the slow one may be dropped as well.
    assert len(orders["slow"]) / 6 > len(orders["fast"]) / 90
    # Batches are of frames of both, and of no camera more than it may have inside.
    assert max(line["outputs"]["seen"][4] for line in lines) >= 2


def test_a_camera_that_is_killed_freezes_or_sends_garbage_comes_back_and_the_other_does_not_notice(tmp_path: Path) -> None:
    with JpegServer() as server:
        port = server.port
        sources = [
            {"name": "door", "url": f"http://127.0.0.1:{port}/live", "timeout_s": 1.0},
            {"name": "yard", "url": "synthetic:?fps=20&size=64x48"},
        ]
        config = config_of(tmp_path, sources)
        with running(config) as pipeline:
            until(lambda: cameras(pipeline)["door"]["answered"] > 3)
            server.frozen.set()
            until(lambda: cameras(pipeline)["door"]["state"] == "reconnecting")
            found = cameras(pipeline)["door"]
            assert found["detail"] in ("nothing came in time", "it gives no frames")
            assert found["last_frame_s"] >= 0.9
            server.frozen.clear()
            until(lambda: cameras(pipeline)["door"]["reconnects"] >= 1)
            server.garbage.set()
            until(lambda: cameras(pipeline)["door"]["dropped"].get("undecodable", 0) > 0)
            server.garbage.clear()
            server.size = Size(96, 96)
            before = cameras(pipeline)["door"]["answered"]
            until(lambda: cameras(pipeline)["door"]["answered"] > before + 3)
            server.__exit__()
            until(lambda: cameras(pipeline)["door"]["state"] == "reconnecting")
            before, yard = cameras(pipeline)["door"]["answered"], cameras(pipeline)["yard"]
            with JpegServer(port):
                until(lambda: cameras(pipeline)["door"]["answered"] > before)
                now = cameras(pipeline)["yard"]
                assert (now["state"], now["reconnects"], now["failed"]) == ("connected", 0, 0)
                assert now["answered"] > yard["answered"]
                assert now["ages"][0]["stage"] == "look"
                assert sum(now["ages"][0]["seconds"]["buckets"]) == now["answered"]
                assert pipeline.stop() == 0


def test_a_password_is_in_no_status_log_metric_or_file_of_the_run(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "p@ss/w:rd%41 &"
    monkeypatch.setenv("DOOR_PASSWORD", password)
    (tmp_path / "yard.secret").write_text("of/the yard\n")
    with JpegServer(user="admin", password=password) as door, JpegServer(user="root", password="of/the yard") as yard:
        sources = [
            {"name": "door", "url": f"http://admin:${{DOOR_PASSWORD}}@127.0.0.1:{door.port}/live?channel=1"},
            {"name": "yard", "url": f"http://root@127.0.0.1:{yard.port}/live", "password_file": "yard.secret"},
            # It refuses: what FFmpeg says of it has the URL.
            {"name": "shed", "url": f"http://admin:${{DOOR_PASSWORD}}@127.0.0.1:{yard.port}/live"},
        ]
        with running(config_of(tmp_path, sources)) as pipeline:
            until(lambda: all(cameras(pipeline)[name]["answered"] for name in ("door", "yard")))
            until(lambda: cameras(pipeline)["shed"]["state"] == "reconnecting" and cameras(pipeline)["shed"]["detail"] != "")
            told = [
                pipeline.log(),
                json.dumps(pipeline.status()),
                cli("status", pipeline.run_dir).out,
                cli("status", pipeline.run_dir, "--prometheus").out,
                cli("check", tmp_path / "cameras.yaml").out,
                *[path.read_text(errors="replace") for path in pipeline.run_dir.rglob("*") if path.is_file()],
            ]
            assert 'trtlab_camera_connected{camera="door",pipeline="cameras"} 1.0' in told[3]
            assert "connected to http://127.0.0.1" in told[0]
            for text in told:
                for secret in (password, "p%40ss", "of/the yard", "of%2Fthe", "channel=1"):
                    assert secret not in text
        assert runs("cameras") == []


def test_check_says_what_the_stages_take_of_this_machine(tmp_path: Path, cli: Cli) -> None:
    sources = [{"name": name, "url": "synthetic:?fps=20&size=64x48", "fps": 5} for name in ("door", "yard")]
    config = config_of(tmp_path, sources, seconds=0.25)
    done = cli("check", config)
    assert done.code == 0, done.err
    assert "stages, tried here with drawn frames of 64x48: 2 cameras, 10 frames/s wanted" in done.out
    # Of a stage that takes 0.25 s.
    assert "frames/s of these are dropped" in done.out
    assert "nothing moves" not in done.out
    assert "tried here" not in cli("check", config, "--no-measure").out


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"url": "rtsp://admin:hunter2@10.0.0.7/live"}, "a password in it: write ${NAME}"),
        ({"url": "rtsp://admin:${X:-hunter2}@10.0.0.7/live"}, "a password in it: write ${NAME}"),
        ({"url": "rtsp://10.0.0.7/live", "drop": "never"}, "a camera over RTSP does not wait"),
        ({"url": "rtmp://10.0.0.7/live"}, "found rtmp://"),
        ({"url": "missing.mp4"}, "there is no file"),
        ({"url": "rtsp://${NOT_SET_ANYWHERE}/live"}, "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_what_cannot_be_a_camera_is_refused_before_anything_starts(
    tmp_path: Path, cli_here: Cli, source: dict[str, Any], why: str
) -> None:
    done = cli_here("run", config_of(tmp_path, [{"name": "door", **source}]))
    assert done.code == 2
    assert why in done.err
    assert "hunter2" not in done.err
