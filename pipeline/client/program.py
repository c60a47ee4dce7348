"""Program: what a client is called that gives itself no name."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["program"]


def program() -> str:
    """The name of this program, as a person has started it: `app.py`, `uvicorn` of `python -m uvicorn`, `python -c`."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == "__main__.py":
        return started.parent.name
    if started.name in ("", "-", "-c", "-m"):
        # A prompt, what came through a pipe, or a program on the command line.
        return f"{Path(sys.executable or 'python').name} {started.name}".strip()
    return started.name
