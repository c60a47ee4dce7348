"""Child: how a floor starts its relay processes, and how they make sure not to outlive it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["become_relay", "spawn"]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_ROOT = Path(__file__).resolve().parents[2]


def spawn(module: str, arguments: Sequence[object], fds: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start `python -m module PARENT_PID ARGUMENTS...` with `fds` inherited under their own numbers.

    A fresh interpreter and not a fork: the measuring process may have threads of other subjects.
    """
    command = [sys.executable, "-m", module, str(os.getpid()), *map(str, arguments)]
    return subprocess.Popen(command, cwd=_ROOT, pass_fds=fds, stdin=subprocess.DEVNULL)


def become_relay(parent: int) -> None:
    """Die with `parent`, leave Ctrl-C to it, and keep the garbage collector out of the loop."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent died before the kernel was told to watch it
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent blocks signals while it starts relays.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
    gc.disable()
