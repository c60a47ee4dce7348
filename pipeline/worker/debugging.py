"""Debugging: `breakpoint()` in a worker, which has no terminal, fails with what to do instead."""

from __future__ import annotations

import os
import sys
from typing import Any

from pipeline.worker.failures import NO_DEBUGGER

__all__ = ["NoDebugger", "refuse_breakpoints"]


class NoDebugger(RuntimeError):
    """`breakpoint()` was called where no person can answer."""


def refuse_breakpoints() -> None:
    """Have `breakpoint()` raise `NoDebugger` in this process.

    If PYTHONBREAKPOINT is set it is obeyed: 0 ignores breakpoints, and some debuggers need no terminal.
    """
    sys.breakpointhook = _refuse


def _refuse(*arguments: Any, **options: Any) -> Any:
    if os.environ.get("PYTHONBREAKPOINT"):
        return sys.__breakpointhook__(*arguments, **options)
    raise NoDebugger(NO_DEBUGGER)
