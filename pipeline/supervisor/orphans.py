"""Orphans: processes that a run's children have started, and that have lost their parent.

The supervisor becomes their parent (PR_SET_CHILD_SUBREAPER, see prctl(2); as the first process of a container it is
anyway). It collects the exit status of the dead ones. Of the living ones it kills those whose worker is dead: a process
that a stage has started must not outlive it, or keep its port or its memory. Those of a living worker are left alone.

An orphan's session tells which worker it belongs to, unless it has made a session of its own; then a variable of its
environment does, which the worker got from the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

__all__ = ["MARK", "Orphans"]

MARK = "TRTLAB_CHILD"
"""Name of the variable; its value is different for each child of each run."""

_PR_SET_CHILD_SUBREAPER = 36
_CLOSE_S = 2.0
_PAUSE_S = 0.002


class Orphans:
    """Those that this process has adopted. One at a time: all children that are not its `own` are taken for orphans."""

    def __init__(self) -> None:
        #: Session and mark of each child that is dead.
        self._dead: dict[int, bytes] = {}
        self._news = False
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def born(self, pid: int) -> None:
        """A child of the supervisor's own has this pid now, so no dead child's session has it any more."""
        self._dead.pop(pid, None)

    def died(self, pid: int, mark: str) -> None:
        """A child of the supervisor's own is dead, whose environment had this mark: the processes that it has started
        must end."""
        self._dead[pid] = f"{MARK}={mark}".encode()
        self._news = True

    def sweep(self, own: Container[int]) -> None:
        """Collect the dead ones, and kill those whose worker is dead. Never blocks, and never collects an `own`
        child."""
        while (pid := _waitable()) and pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            # Its own children are ours now.
            self._news = True
        if self._news and self._dead:
            for pid in _children():
                if pid not in own and self._outlives(pid):
                    _kill(pid)
        self._news = False

    def _outlives(self, pid: int) -> bool:
        with suppress(OSError):
            if os.getsid(pid) in self._dead:
                return True
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            return any(mark in variables for mark in self._dead.values())
        return False

    def close(self) -> None:
        """Kill all that are left and wait for their ends, 2 s at most; the supervisor has no child of its own left by
        now."""
        end = time.monotonic() + _CLOSE_S
        killed: set[int] = set()
        while _waitable() is not None and time.monotonic() < end:
            for pid in _children():
                if pid not in killed:
                    _kill(pid)
                    killed.add(pid)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(_PAUSE_S)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _waitable() -> int | None:
    """The pid of a child that is dead and was not collected; 0: there is none among the children; None: no child."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else 0


def _children() -> list[int]:
    """Pids of all children; none if this process lacks the descriptor to look: it looks again later."""
    try:
        # The kernel's own list, if it keeps one. A child belongs to the thread that has made or adopted it.
        texts = [Path(f"/proc/self/task/{task}/children").read_text() for task in os.listdir("/proc/self/task")]
        return [int(pid) for text in texts for pid in text.split()]
    except OSError:
        with suppress(OSError):
            return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent_of(pid) == os.getpid()]
    return []


def _parent_of(pid: str) -> int:
    try:
        # The second field is the command in parentheses and may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0  # It has ended since.


def _kill(pid: int) -> None:
    # It is our child, and was not collected: no other process has its pid.
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
