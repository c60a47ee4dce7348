"""Telling: how a child process says something to operators: in a line of its stderr (see `entry`)."""

from __future__ import annotations

import sys

from pipeline.logs.entry import LEVELS, Entry
from pipeline.streams import unheard

__all__ = ["set_least", "tell", "tell_entry"]

#: Of this process: what is below is not said at all.
_least = LEVELS["info"]


def set_least(level: str) -> None:
    """From now on nothing is said below this level."""
    global _least
    _least = LEVELS[level]


def tell_entry(entry: Entry) -> None:
    """Say it."""
    # Of records of a stage's own `logging` its handler has decided.
    if entry.logger or LEVELS[entry.level] >= _least:
        with unheard():
            # In one piece: otherwise what another thread prints would come in between.
            sys.stderr.write(entry.line())
            sys.stderr.flush()


def tell(level: str, text: str, *, traceback: str = "", last: bool = False) -> None:
    """Say something that is about no request.

    Args:
        last: it is why this process ends.
    """
    tell_entry(Entry(level, text, traceback=traceback, last=last))
