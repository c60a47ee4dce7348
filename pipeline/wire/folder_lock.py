"""The lock on a folder itself: a run holds its own, for cleaners of old files, and beside the lock on a file in it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

__all__ = ["held", "is_free", "is_held"]

#: Another process may hold a folder for a moment, to ask whether we do.
_HOLD_ATTEMPTS = 20
_HOLD_PAUSE_S = 0.01


def held(folder: Path) -> int:
    """A descriptor of the folder that holds its lock, if its file system has such locks."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for _ in range(_HOLD_ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(_HOLD_PAUSE_S)
        except OSError:
            break  # Its file system knows none for folders, as NFS does not; `owner.lock` remains.
    return fd


def is_held(folder: Path) -> bool:
    """Whether a living process holds the folder; False too if that cannot be told."""
    return _tried(folder) is False


def is_free(folder: Path) -> bool:
    """Whether it is certain that the folder is there and no process holds it."""
    return _tried(folder) is True


def _tried(folder: Path) -> bool | None:
    """Whether the lock could be had; None: that cannot be told."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(fd)
    return True
