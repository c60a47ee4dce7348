"""Pausing: a camera that is not looked at until it is switched on again.

    RUN_FOLDER/cameras/door.paused      there: the camera `door` is paused

It is a file, since each process that has a switch for it may set it, and since it outlives a source that dies and the
scheduler. It ends with the run; a new version of the run takes over the switches of the one before.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "Pause", "take_over_pauses"]

FOLDER = "cameras"
"""Of a run's folder: what sources and those that show cameras leave for each other. For the run's user alone."""

_PAUSED = ".paused"


class Pause:
    """The switch of one camera.

    Args:
        run_dir: the run's folder.
        camera: the camera's name.
    """

    def __init__(self, run_dir: Path, camera: str) -> None:
        self._file = run_dir / FOLDER / f"{camera}{_PAUSED}"

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


def take_over_pauses(before: Path, after: Path) -> None:
    """Have the cameras that are paused in one run be paused in another one, and no others.

    Args:
        before: the folder of the run that is replaced. If it is gone, nothing changes.
        after: the folder of the run that takes over.

    Raises:
        OSError: `after` is gone, or may not be written to.
    """
    if not before.is_dir():
        return
    was, now = _paused(before), _paused(after)
    for camera in was ^ now:
        Pause(after, camera).set(camera in was)


def _paused(run_dir: Path) -> set[str]:
    return {path.name.removesuffix(_PAUSED) for path in (run_dir / FOLDER).glob(f"*{_PAUSED}")}
