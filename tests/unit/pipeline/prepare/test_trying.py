"""How long stages take for a frame, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StartError
from pipeline.graph.plan import CameraPlan
from pipeline.prepare.preparation import prepare
from pipeline.prepare.trying import Look, Tried, frames_wanted, most_frames, try_stages
from pipeline.video.frame import Size
from tests.integration.cameras import config_of

ROOT = Path(__file__).parents[4]
SCENE = {"name": "yard", "url": "synthetic:?fps=20&size=64x48"}


def test_the_process_that_is_busy_for_the_longest_time_allows_no_more_frames() -> None:
    plan = prepare(ROOT / "configs" / "edge.yaml", ["detect.replicas=2"]).plan
    look = Look(0.1, {"motion": 0.01, "letterbox": 0.01, "detect": 0.04, "decode": 0.01, "track": 0.001})
    # Two workers, in each of which detect and decode take turns.
    assert most_frames(plan, look) == (pytest.approx(2 / 0.05), "detect+decode")
    assert most_frames(plan, Look(0.1, {"motion": 0.01, "track": 0.02})) == (pytest.approx(50.0), "track")
    assert most_frames(plan, Look(0.1, {}))[1] == ""


def test_frames_are_wanted_as_the_config_says_or_as_many_as_a_camera_sends() -> None:
    cameras = [CameraPlan("a", "rtsp://10.0.0.7/a", fps=5.0), CameraPlan("b", "rtsp://10.0.0.7/b"),
               CameraPlan("c", "synthetic:?fps=10")]  # fmt: skip
    assert frames_wanted(cameras) == 5 + 25 + 10


def test_stages_that_are_skipped_while_nothing_moves_are_gated() -> None:
    moving = Look(0.1, {"motion": 0.01, "detect": 0.1})
    assert Tried(Size(64, 48), moving, Look(0.01, {"motion": 0.01})).is_gated
    assert not Tried(Size(64, 48), moving, moving).is_gated


def test_stages_are_tried_in_a_process_of_their_own(tmp_path: Path) -> None:
    path = config_of(tmp_path, [SCENE], seconds=0.01)
    tried = try_stages(prepare(path).plan, path)
    assert tried.size == Size(64, 48)
    # It sleeps so long for each frame, which takes no CPU time.
    assert tried.moving.stages["look"] >= 0.01
    assert tried.moving.cpu_s > 0
    assert set(tried.still.stages) == {"look"}


@pytest.mark.parametrize(
    ("process", "why"),
    [("raise ValueError('too dark')", "too dark"), ("__import__('os')._exit(7)", "exit code 7")],
)
def test_stages_that_fail_or_die_are_told(tmp_path: Path, process: str, why: str) -> None:
    path = config_of(tmp_path, [SCENE])
    stages = tmp_path / "camera_stages.py"
    stages.write_text(stages.read_text().replace("    def process(self, batch):", f"    def process(self, batch):\n        {process}"))
    with pytest.raises(StartError, match=why):
        try_stages(prepare(path).plan, path)


def test_what_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    path = config_of(tmp_path, [SCENE], seconds=60.0)
    with pytest.raises(StartError, match=r"within 0\.2 s"):
        try_stages(prepare(path).plan, path, timeout_s=0.2)
