"""Leash: a program that does not outlive the benchmark that has started it.

    python leash.py PARENT_PID PROGRAM ARGUMENTS...      becomes PROGRAM, which gets SIGTERM if PARENT_PID dies
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["leashed"]

_PR_SET_PDEATHSIG = 1  # prctl(2); execve(2) keeps it


def leashed(command: Sequence[str]) -> list[str]:
    """The command that starts `command` so. The thread that starts it must be the main one: the kernel watches that."""
    return [sys.executable, str(Path(__file__)), str(os.getpid()), *command]


def _main(parent: int, command: list[str]) -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent died before the kernel was told to watch it
        return 1
    return os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), sys.argv[2:]))
