"""Pausing: a camera that is not looked at until it is switched on again.

    RUN_FOLDER/cameras/door.paused      there: the camera `door` is paused

It is a file, since each process that has a switch for it may set it, and since it outlives a source that dies and the
scheduler. It ends with the run.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "Pause"]

FOLDER = "cameras"
"""Of a run's folder: what sources and those that show cameras leave for each other. For the run's user alone."""


class Pause:
    """The switch of one camera.

    Args:
        run_dir: the run's folder.
        camera: the camera's name.
    """

    def __init__(self, run_dir: Path, camera: str) -> None:
        self._file = run_dir / FOLDER / f"{camera}.paused"

    @property
    def on(self) -> bool:
        """Whether the camera is paused."""
        return self._file.exists()

    def set(self, on: bool) -> None:
        """Pause the camera, or go on.

        Raises:
            OSError: the run's folder is gone, or may not be written to.
        """
        if on:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            self._file.touch(mode=0o600)
        else:
            self._file.unlink(missing_ok=True)
