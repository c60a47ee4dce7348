"""Code that runs as another user: what the permissions of files mean can be seen only so. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["as_user"]

ROOT = Path(__file__).parents[3]


def as_user(user: int, groups: Sequence[int], code: str) -> str:
    """What `code` prints as that user, whose own group has the same number; a test without root is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    # All is imported before the user changes: root's Python may lie where no other user can look.
    start = (
        "import os, sys, shm.segments, shm.leftovers, shm.owner, shm.permissions, pipeline.client, pipeline.wire.group\n"
        f"os.setgroups({list(groups)!r}); os.setresgid({user}, {user}, {user}); os.setresuid({user}, {user}, {user})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
