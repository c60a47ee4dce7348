"""`pipeline pause`: switch cameras of a run off, for privacy, until `pipeline resume`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.client.status import ask_status
from pipeline.errors import ConfigError, Unavailable
from pipeline.streams import say
from pipeline.video.pausing import Pause
from pipeline.wire.camera import State
from pipeline.wire.run_dir import find_run
from pipeline.wire.shards import one_run
from pipeline.wire.status import CameraStatus

__all__ = ["CamerasArgument", "RunArgument", "register", "switch"]

_FAILED = 1
_LOOK_S = 0.05
_WAIT_S = 15.0
"""How long the sources may take; one that waits for a camera that sends nothing looks once its `timeout_s` is over."""

RunArgument = Annotated[
    str, typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder.", show_default=False)
]
CamerasArgument = Annotated[list[str], typer.Argument(metavar="[CAMERA]...", help="Which ones; default: all.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(pause)


def pause(run: RunArgument, cameras: CamerasArgument = []) -> None:  # noqa: B006 (typer's own form of a default)
    """Switch cameras off: their sources disconnect, and read nothing until `pipeline resume`.

    It outlives the death of any process of the run, and a reload; it ends with the run. Exit code 1: the run is not
    there, or a camera is not paused yet.
    """
    switch(run, cameras, on=True)


def switch(run: str, names: Sequence[str], *, on: bool) -> None:
    """Pause cameras, or have them go on; print how they are then.

    Args:
        run: as on the command line.
        names: of the cameras; empty: all.
        on: whether they are paused.
    """
    try:
        folder = one_run(find_run(run))
        found = [camera.name for camera in ask_status(folder).cameras]
        if not found:
            raise ConfigError(f"{folder.name} has no cameras")
        for name in names:
            if name not in found:
                raise ConfigError(f"{folder.name} has no camera {name}: its cameras are {', '.join(found)}")
        switched = [name for name in found if name in names or not names]
        for name in switched:
            Pause(folder, name).set(on)
        states = _await(folder, switched, on=on)
    except (Unavailable, OSError) as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    for camera in states:
        print(f"{camera.name}: {camera.state}{': ' * bool(camera.detail)}{camera.detail}")
    if not all(_is_switched(camera, on=on) for camera in states):
        say(f"error: not all are {'paused' if on else 'on'} within {_WAIT_S:g} s; see `pipeline status`")
        sys.exit(_FAILED)


def _await(folder: Path, names: Sequence[str], *, on: bool) -> list[CameraStatus]:
    """How they are, once all of them are switched, or the time is over."""
    end = time.monotonic() + _WAIT_S
    while True:
        states = [camera for camera in ask_status(folder).cameras if camera.name in names]
        if all(_is_switched(camera, on=on) for camera in states) or time.monotonic() >= end:
            return states
        time.sleep(_LOOK_S)


def _is_switched(camera: CameraStatus, *, on: bool) -> bool:
    if camera.state == State.ENDED:
        # Nothing is read of it any more.
        return True
    # A camera that is being opened may take its time, and has another word a moment later.
    return camera.state == State.PAUSED if on else camera.state not in (State.PAUSED, State.CONNECTING)
