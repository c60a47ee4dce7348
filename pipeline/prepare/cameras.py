"""Cameras: whether what a source needs to read its camera is there, before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipeline.config.camera_urls import Kind, kind_of
from pipeline.errors import ConfigError, StartError
from pipeline.graph.plan import CameraPlan, Plan

__all__ = ["refuse_cameras"]


def refuse_cameras(plan: Plan) -> None:
    """
    Raises:
        ConfigError: a file is not there.
        StartError: PyAV is not installed.
    """
    for camera in plan.cameras:
        kind = kind_of(camera.url)
        if kind is Kind.SCENE:
            continue
        if find_spec("av") is None:
            raise StartError(
                f"camera {camera.name}: its frames are decoded by PyAV, which is not installed: "
                f"pip install 'trtlab[video]'"
            )
        if kind is Kind.FILE and "$" not in camera.url and not (path := _path_of(camera, plan)).is_file():
            raise ConfigError(f"camera {camera.name}: url: there is no file {path}")


def _path_of(camera: CameraPlan, plan: Plan) -> Path:
    return Path(plan.base_dir) / Path(camera.url).expanduser()
