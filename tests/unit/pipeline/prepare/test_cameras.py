"""What a source needs is looked for before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.errors import ConfigError, StartError
from pipeline.graph.plan import CameraPlan
from pipeline.prepare import cameras
from pipeline.prepare.cameras import refuse_cameras
from tests.unit.pipeline.supervisor.test_supervision import PLAN


def test_a_file_that_is_not_there_is_refused_with_the_camera_that_names_it(tmp_path: Path) -> None:
    plan = replace(PLAN, base_dir=str(tmp_path), cameras=(CameraPlan("door", "door.mp4"),))
    with pytest.raises(ConfigError, match=r"camera door: url: there is no file .*door.mp4"):
        refuse_cameras(plan)
    (tmp_path / "door.mp4").write_bytes(b"")
    refuse_cameras(plan)


def test_without_pyav_only_scenes_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "find_spec", lambda name: None)
    refuse_cameras(replace(PLAN, cameras=(CameraPlan("door", "synthetic"),)))
    with pytest.raises(StartError, match=r"camera door: .* pip install 'trtlab\[video\]'"):
        refuse_cameras(replace(PLAN, cameras=(CameraPlan("door", "rtsp://h/"),)))
